"""A disk that fails at a chosen point, for whatever uses SQLite in this process.

It is the default VFS of apsw once `register` was called. A file says when and how, so that a test arms it when
everything is in place:

    {"file": "-wal", "point": "before sync", "occurrence": 3, "is_power_loss": true}

means: at the third sync of a file that ends in `-wal`, before it, lose what was written since the last sync of each
file, then die by SIGKILL. The file is deleted first, so that whoever is started next lives.
"""

from __future__ import annotations

import enum
import json
import os
import signal
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import apsw

BASE = "unix"
VARIABLE = "FAULT_CRASH_FILE"


class CrashPoint(enum.Enum):
    """Where a process dies."""

    BEFORE_WRITE = "before write"
    HALF_WRITTEN = "half-written"
    BEFORE_SYNC = "before sync"
    AFTER_SYNC = "after sync"


class Crash(NamedTuple):
    """What is to happen, and when."""

    file: str
    """How the file's name ends."""
    point: CrashPoint
    occurrence: int
    """At which one of these writes or syncs: 1 is the next."""
    is_power_loss: bool = False

    def arm(self, path: Path) -> None:
        """Make it happen. The file appears whole or not at all."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(self._asdict() | {"point": self.point.value}))
        draft.rename(path)


class _Undo(NamedTuple):
    """How to take back a write."""

    offset: int
    data: bytes
    size: int


class CrashDisk:
    """Knows what isn't synced yet, and when to die. All files of the process share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._crash: Crash | None = None
        self._left = 0
        self._unsynced: dict[str, list[_Undo]] = defaultdict(list)

    def is_due(self, name: str, *points: CrashPoint) -> CrashPoint | None:
        """Count a write or sync of a file; return the point if it is here that the process dies."""
        with self._lock:
            crash = self._find_crash()
            if crash is None or crash.point not in points or not name.endswith(crash.file):
                return None
            self._left -= 1
            return crash.point if self._left == 0 else None

    def note(self, name: str, offset: int, length: int) -> None:
        """Keep what a write is about to replace."""
        with self._lock, Path(name).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
            self._unsynced[name].append(_Undo(offset, data, os.fstat(file.fileno()).st_size))

    def forget(self, name: str) -> None:
        """Note that a file is on disk."""
        with self._lock:
            self._unsynced.pop(name, None)

    def die(self) -> None:
        """End this process as a crash, or a power failure, does."""
        with self._lock:
            assert self._crash is not None
            self._path.unlink()
            if self._crash.is_power_loss:
                for name, undos in self._unsynced.items():
                    _take_back(name, undos)
            os.kill(os.getpid(), signal.SIGKILL)

    def _find_crash(self) -> Crash | None:
        if self._crash is None and self._path.exists():
            wanted = json.loads(self._path.read_text())
            self._crash = Crash(**wanted | {"point": CrashPoint(wanted["point"])})
            self._left = self._crash.occurrence
        return self._crash


def _take_back(name: str, undos: list[_Undo]) -> None:
    with Path(name).open("r+b") as file:
        for undo in reversed(undos):
            file.seek(undo.offset)
            file.write(undo.data)
            file.truncate(undo.size)


class _CrashFile(apsw.VFSFile):
    """A file on the disk that fails."""

    def __init__(self, disk: CrashDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name or "")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - named by apsw
        point = self._disk.is_due(self._name, CrashPoint.BEFORE_WRITE, CrashPoint.HALF_WRITTEN)
        if point is CrashPoint.BEFORE_WRITE:
            self._disk.die()
        self._note(offset, len(data))
        if point is CrashPoint.HALF_WRITTEN:
            super().xWrite(data[: len(data) // 2], offset)
            self._disk.die()
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - named by apsw
        self._note(newsize, max(0, self.xFileSize() - newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - named by apsw
        point = self._disk.is_due(self._name, CrashPoint.BEFORE_SYNC, CrashPoint.AFTER_SYNC)
        if point is CrashPoint.BEFORE_SYNC:
            self._disk.die()
        super().xSync(flags)
        self._disk.forget(self._name)
        if point is CrashPoint.AFTER_SYNC:
            self._disk.die()

    def _note(self, offset: int, length: int) -> None:
        if self._name:  # a temporary file has none, and survives nothing anyway
            self._disk.note(self._name, offset, length)


class _CrashVFS(apsw.VFS):
    def __init__(self, disk: CrashDisk) -> None:
        self._disk = disk
        super().__init__("crash", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - named by apsw
        return _CrashFile(self._disk, name, flags)


def register() -> object:
    """Put the disk that fails under this process, if `FAULT_CRASH_FILE` says so; keep what is returned."""
    path = os.environ.get(VARIABLE)
    return _CrashVFS(CrashDisk(Path(path))) if path else None
