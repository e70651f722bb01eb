"""Who holds which slot: a lock of the kernel, which ends with its process and not before."""

import fcntl
import os
import time
from pathlib import Path

from shim.errors import StartError
from shim.journal.marks import SLOTS

_PATIENCE_SECONDS = 0.1
"""The drainer looks for an instant whether a slot is free."""


class Lock:
    """A lock on a file that is never deleted."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def is_taken(self) -> bool:
        """Take the lock, now or not at all."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the lock back. A repeat does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def take_slot(folder: Path, preferred: int) -> tuple[int, Lock]:
    """Take the preferred slot, or the next that is free: a frozen process may hold its own for long.

    Raises `StartError` when there is none.
    """
    for slot in range(SLOTS):
        candidate = (preferred + slot) % SLOTS
        lock = Lock(_lock_path(folder, candidate))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (taken := lock.is_taken()) and time.monotonic() < deadline:
            time.sleep(0.005)
        if taken:
            return candidate, lock
        lock.close()
    raise StartError(f"all {SLOTS} journals in {folder} are in use; end some workers, or give fewer with --workers")


def find_free(folder: Path, slot: int) -> Lock | None:
    """Take a slot that nobody holds; None when somebody does."""
    lock = Lock(_lock_path(folder, slot))
    if lock.is_taken():
        return lock
    lock.close()
    return None


def was_taken(folder: Path, slot: int) -> bool:
    """Whether anybody ever held that slot."""
    return _lock_path(folder, slot).exists()


def _lock_path(folder: Path, slot: int) -> Path:
    return folder / f"{slot}.db.lock"
