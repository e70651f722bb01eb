"""What the journal holds, and what can go wrong with it. Pure."""

from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

ENTRY_BYTES = 64
"""What an entry needs on disk beside its payload, about."""


class JournalError(Exception):
    """The journal can't take an entry: its disk is full or broken, or it is closed. Nothing was kept."""


class JournalFullError(JournalError):
    """The journal holds as much as it may, or too much waits for its disk."""


class EntryKind(IntEnum):
    """What an entry's payload is: an encoding for which concatenation is the encoding of both."""

    MESSAGE = 1
    """An `IngestBatchRequest` of one message, and whose it is: see `payload`."""
    QUARANTINE = 2
    """A `QuarantineRequest` of one request."""


class Entry(NamedTuple):
    """One thing that waits for the service."""

    number: int
    """Its place in its file: without gaps, ascending."""
    stamp: int
    """Its place among all files of the host: ns since 1970, but never going back."""
    kind: int
    payload: bytes

    @property
    def checksum(self) -> bytes:
        """What tells an entry from what a broken disk makes of it."""
        return checksum(self.stamp, self.kind, self.payload)


class Parcel(NamedTuple):
    """An entry on its way to the service."""

    entry_id: str
    """The same at every try."""
    entry: Entry


def checksum(stamp: int, kind: int, payload: bytes) -> bytes:
    """Return 8 bytes that stand for an entry wherever it is."""
    return blake2b(b"%d %d " % (stamp, kind) + payload, digest_size=8).digest()
