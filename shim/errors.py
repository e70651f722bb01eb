"""What can go wrong in the shim, in its own words. Messages never hold a password, a text or a whole number."""


class StartError(Exception):
    """The shim can't start: the message says why and what to do, in one line."""


class OverloadError(Exception):
    """A bounded queue is full. The caller may try again; nothing was begun."""


class GuessLimitError(OverloadError):
    """Too many wrong credentials came before these, which may be right."""


class ServiceUnavailableError(Exception):
    """The service can't be reached, or didn't answer in time: what became of the call is unknown."""


class ServiceFaultError(Exception):
    """The service answered what it should not have: a fault of ours that a retry won't mend."""


class StorageError(Exception):
    """The state directory can't be written: full, read-only or broken."""
