"""Who runs a command, as the service's audit log is told."""

import getpass
import socket

MOST_CHARACTERS = 128
"""How long a name the service keeps."""


def this_user() -> str:
    """Return `user@host` as this machine knows them, printable ASCII; what it can't tell is called unknown."""
    try:
        user = getpass.getuser()
    # A container may run us as a number that has no name.
    except (OSError, KeyError, ImportError):
        user = "unknown"
    return _as_ascii(f"{user}@{socket.gethostname() or 'unknown'}")[:MOST_CHARACTERS]


def _as_ascii(text: str) -> str:
    return "".join(character if is_printable_ascii(character) else "?" for character in text)


def is_printable_ascii(text: str) -> bool:
    """Tell whether `text` can travel as it is in the metadata of a call."""
    return text.isascii() and text.isprintable()
