"""The marks: a few numbers that all processes of a host share, so that whether anything waits costs no system call.

A mapped file and not a socket: a process that is frozen or gone takes nothing with it. Each word has one writer. They
are hints that a power failure may set back: the drainer makes them anew from the files before anything is accepted.
"""

import mmap
import os
from pathlib import Path

from shim.errors import StartError

SLOTS = 256
"""How many workers' files a host may have."""
RECOVERED = SLOTS
"""The place after the slots is the drainer's: what it recovered from damaged files and has not handed over yet."""

_PLACES = SLOTS + 1
_COMMITTED, _HANDED, _STAMPS, _BYTES_IN, _BYTES_OUT = (row * _PLACES for row in range(5))
_ROW = _PLACES * 8


class Marks:
    """The numbers of all slots."""

    def __init__(self, folder: Path) -> None:
        """Open or create the file in the journal's folder. Raises `StartError` when that can't be written."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(folder / "marks", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                # With its blocks: to write into a hole of a mapped file on a full disk would kill the process.
                os.posix_fallocate(file, 0, 5 * _ROW)
                self._map = mmap.mmap(file, 5 * _ROW)
            finally:
                os.close(file)
        except OSError as error:
            raise StartError(
                f"can't write in {folder}: {error.strerror or error}; make it writable, or choose another folder "
                "with --state-dir"
            ) from error
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")

    def is_empty(self) -> bool:
        """Whether everything that was ever committed is handed over."""
        return self._map[:_ROW] == self._map[_ROW : 2 * _ROW]

    def committed(self, place: int) -> int:
        """Return the number of the last entry that is on disk."""
        return self._words[_COMMITTED + place]

    def handed(self, place: int) -> int:
        """Return the number of the last entry that nobody needs any more."""
        return self._words[_HANDED + place]

    def set_committed(self, place: int, number: int) -> None:
        """Set by the worker that holds the slot; by the drainer while nobody does."""
        self._words[_COMMITTED + place] = number

    def set_handed(self, place: int, number: int) -> None:
        """Set by the drainer alone."""
        self._words[_HANDED + place] = number

    def last_stamp(self) -> int:
        """Return the last stamp of the host. Whatever was answered before this call has no later one."""
        return max(self._words[_STAMPS : _STAMPS + _PLACES])

    def stamp(self, place: int) -> int:
        """Return the last stamp of a place."""
        return self._words[_STAMPS + place]

    def set_stamp(self, place: int, stamp: int) -> None:
        """Set by the worker that holds the slot; by the drainer while nobody does."""
        self._words[_STAMPS + place] = stamp

    def add_bytes(self, place: int, size: int) -> None:
        """Count what was appended. By the worker that holds the slot."""
        self._words[_BYTES_IN + place] += size

    def add_bytes_handed(self, place: int, size: int) -> None:
        """Count what was handed over. By the drainer alone."""
        self._words[_BYTES_OUT + place] += size

    def set_bytes_of_a_free_slot(self, place: int, size: int) -> None:
        """Let a slot that nobody holds have that many bytes. By the drainer alone."""
        self._words[_BYTES_IN + place], self._words[_BYTES_OUT + place] = size, 0

    def clear(self, place: int) -> None:
        """Let a slot that nobody holds, and that has no file, begin anew. By the drainer alone."""
        for row in (_BYTES_IN, _BYTES_OUT, _COMMITTED, _HANDED):
            self._words[row + place] = 0

    def snapshot(self) -> tuple[int, ...]:
        """Return what was committed in each place at one instant, so that nothing in it follows what is missing."""
        words = bytes(self._map[:_ROW])
        while (again := bytes(self._map[:_ROW])) != words:
            words = again
        return tuple(memoryview(words).cast("Q"))

    def find_open(self) -> list[int]:
        """Return the slots in which something waits."""
        words = self._words
        return [slot for slot in range(SLOTS) if words[_COMMITTED + slot] != words[_HANDED + slot]]

    def entries_waiting(self) -> int:
        """Return how many entries are not handed over. About right while they come and go."""
        committed, handed = (self._words[row : row + _PLACES] for row in (_COMMITTED, _HANDED))
        return sum(max(0, a - b) for a, b in zip(committed, handed, strict=True))

    def bytes_waiting(self) -> int:
        """Return their bytes. About right while they come and go."""
        words = self._words
        appended, handed = sum(words[_BYTES_IN:_BYTES_OUT]), sum(words[_BYTES_OUT : _BYTES_OUT + _PLACES])
        return max(0, appended - handed)

    def close(self) -> None:
        """Unmap the file. A repeat does nothing."""
        self._words.release()
        self._bytes.release()
        self._map.close()
