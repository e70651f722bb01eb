"""Which file a worker keeps its replica in, so that each has one of its own and none begins with less than is known.

The first to come uses the state directory itself, the others a numbered folder in it; a lock of the kernel says which
are taken, by frozen workers too. A worker that finds a newer directory in another's file begins with a copy of that.
"""

import contextlib
import fcntl
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import apsw

from shim.errors import StartError
from shim.replica_store import ReplicaStore

_log = logging.getLogger(__name__)

_MAX_REPLICAS = 256
_FOLDER = "replicas"


class _Snapshot(NamedTuple):
    """How far a replica's file has come."""

    directory_id: str
    revision: int
    written_at: float


def open_replica_store(stack: ExitStack, state_dir: Path, preferred: int) -> ReplicaStore:
    """Open the replica in the preferred place, or the next that is free, until the stack unwinds.

    Raises `StartError` when the state directory can't be written.
    """
    try:
        folder = _take_folder(stack, state_dir, preferred)
        _copy_the_newest(state_dir, folder / "replica.db")
    except OSError as error:
        raise StartError(
            f"can't write in {state_dir}: {error.strerror or error}; make it writable, or choose another with "
            "--state-dir"
        ) from error
    store = ReplicaStore(folder)
    stack.callback(store.close)
    return store


def forget_others(state_dir: Path) -> None:
    """Delete the replicas in places that are free: the directory has lost changes that they may have."""
    for folder in (state_dir, *(state_dir / _FOLDER).glob("*")):
        try:
            with ExitStack() as stack:
                _lock(stack, folder)
                for end in ("", "-wal", "-shm"):
                    (folder / f"replica.db{end}").unlink(missing_ok=True)
        except BlockingIOError:
            continue  # its worker has heard of the loss, too, or will
        except OSError as error:
            action = "delete it: a worker that starts while the service is away may believe it"
            _log.error(
                "replica_not_deleted", extra={"file": error.filename, "reason": error.strerror, "action": action}
            )


def _take_folder(stack: ExitStack, state_dir: Path, preferred: int) -> Path:
    for number in range(preferred, preferred + _MAX_REPLICAS):
        folder = state_dir / _FOLDER / str(number % _MAX_REPLICAS) if number % _MAX_REPLICAS else state_dir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _lock(stack, folder)
        except BlockingIOError:
            continue
        return folder
    raise StartError(f"all {_MAX_REPLICAS} replicas in {state_dir} are in use; end some workers")


def _lock(stack: ExitStack, folder: Path) -> None:
    """Take a place until the stack unwinds. Raises `BlockingIOError` when it is taken."""
    lock = os.open(folder / "replica.db.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    stack.callback(os.close, lock)


def _copy_the_newest(state_dir: Path, own: Path) -> None:
    paths = [state_dir / "replica.db", *(state_dir / _FOLDER).glob("*/replica.db")]
    found = {path: snapshot for path in paths if (snapshot := _read(path))}
    best = own if own in found else None
    for path, snapshot in found.items():
        if best is None or _is_newer(snapshot, found[best]):
            best = path
    if best is not None and best != own:
        _copy(best, own)


def _is_newer(one: _Snapshot, other: _Snapshot) -> bool:
    if one.directory_id == other.directory_id:
        return one.revision > other.revision
    return one.written_at > other.written_at


def _read(path: Path) -> _Snapshot | None:
    # What can't be read is no source; whose it is puts it aside.
    with contextlib.suppress(apsw.Error, OSError), contextlib.closing(_open(path)) as connection:
        row = connection.execute("SELECT directory_id, revision FROM snapshot").fetchone()
        if row:
            files = (path, path.with_name(path.name + "-wal"))
            return _Snapshot(row[0], row[1], max(file.stat().st_mtime for file in files if file.exists()))
    return None


def _copy(source: Path, own: Path) -> None:
    """Put a copy in the place of our own file, of the one moment; its worker may go on writing meanwhile."""
    copy = own.with_suffix(".copy")
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    try:
        with contextlib.closing(_open(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
    except apsw.Error:
        copy.unlink()  # then it begins with what it has, and the service sends the rest
        return
    for companion in ("-wal", "-shm"):
        own.with_name(own.name + companion).unlink(missing_ok=True)
    copy.replace(own)


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(1_000)
    return connection
