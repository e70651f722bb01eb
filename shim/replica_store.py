"""The replica's file: one row a channel, so that a restarted shim knows every caller without asking anybody.

A cache, whatever is lost comes again from the service: hence WAL with synchronous=NORMAL, no fsync a commit, and a
file that can't be read is put aside. Nothing else lives in it. It holds password hashes: only its owner may read it.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from shim.errors import StartError, StorageError

_log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE snapshot (
  generation INTEGER PRIMARY KEY,
  directory_id TEXT NOT NULL,
  revision INTEGER NOT NULL
) STRICT;
CREATE TABLE channel (
  generation INTEGER NOT NULL,
  channel_config_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  replica BLOB NOT NULL,
  PRIMARY KEY (generation, channel_config_id)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_PURGED_AT_ONCE = 500


class Position(NamedTuple):
    """How far a replica has come, and in which directory."""

    directory_id: str
    revision: int


class Change(NamedTuple):
    """A channel as it is since that revision: its encoded `ChannelReplica`, deleted ones included."""

    channel_config_id: str
    revision: int
    replica: bytes


class ReplicaStore:
    """The channels of the last complete snapshot and what changed since, on disk.

    A new snapshot grows beside the old one, which stays in force until `finish_snapshot`. What writes raises
    `StorageError` when it can't; nothing has changed then.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the file. Raises `StartError` when the folder can't be written."""
        path = folder / "replica.db"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = _open_or_replace(path)
        except (OSError, apsw.Error) as error:
            raise StartError(
                f"can't write in {folder}: {error}; make it writable, or choose another with --state-dir"
            ) from error
        row = self._connection.execute("SELECT generation, directory_id, revision FROM snapshot").fetchone()
        self._generation: int = row[0] if row else 0
        self.position = Position(row[1], row[2]) if row else None
        """How far the complete snapshot has come; None when there is none yet."""

    def find(self, channel_config_id: str) -> bytes | None:
        """Return the encoded `ChannelReplica` of a channel, of the complete snapshot."""
        row = self._connection.execute(
            "SELECT replica FROM channel WHERE generation = ? AND channel_config_id = ?",
            (self._generation, channel_config_id),
        ).fetchone()
        return row[0] if row else None

    def apply(self, changes: Sequence[Change], position: Position | None = None) -> None:
        """Change channels of the complete snapshot, and its position with them. What it knows newer stays."""
        with self._writing():
            self._write(self._generation, changes)
            if position:
                self._connection.execute(
                    "UPDATE snapshot SET directory_id = ?, revision = ? WHERE generation = ?",
                    (*position, self._generation),
                )
        self.position = position or self.position

    def begin_snapshot(self) -> None:
        """Begin a new snapshot, and forget one that was begun and not finished."""
        with self._writing():
            self._connection.execute("DELETE FROM channel WHERE generation = ?", (self._generation + 1,))

    def add_to_snapshot(self, changes: Sequence[Change]) -> None:
        """Add channels to the snapshot that was begun."""
        with self._writing():
            self._write(self._generation + 1, changes)

    def finish_snapshot(self, position: Position) -> None:
        """Put the snapshot that was begun in the place of the complete one, at once and altogether."""
        with self._writing():
            self._connection.execute("DELETE FROM snapshot")
            self._connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (self._generation + 1, *position))
        self._generation += 1
        self.position = position

    def purge(self) -> Iterator[None]:
        """Delete what no snapshot needs any more, in slices so small that nobody has to wait."""
        while True:
            with self._writing():
                self._connection.execute(
                    "DELETE FROM channel WHERE (generation, channel_config_id) IN"
                    " (SELECT generation, channel_config_id FROM channel WHERE generation < ? LIMIT ?)",
                    (self._generation, _PURGED_AT_ONCE),
                )
            if not self._connection.changes():
                return
            yield

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except apsw.Error as error:
            raise StorageError(f"the replica can't be written: {error}") from error

    def _write(self, generation: int, changes: Sequence[Change]) -> None:
        self._connection.executemany(
            "INSERT INTO channel VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET revision = excluded.revision, replica = excluded.replica WHERE excluded.revision > revision",
            [(generation, *change) for change in changes],
        )


def _open_or_replace(path: Path) -> apsw.Connection:
    try:
        return _open(path)
    except (apsw.NotADBError, apsw.CorruptError):
        aside = path.with_suffix(".unreadable")
        _log.warning("replica_unreadable", extra={"kept_as": str(aside)})
        path.replace(aside)
        for companion in ("-wal", "-shm"):
            path.with_name(path.name + companion).unlink(missing_ok=True)
        path.touch(mode=0o600)
        return _open(path)


def _open(path: Path) -> apsw.Connection:
    with contextlib.ExitStack() as on_failure:
        connection = apsw.Connection(str(path))
        on_failure.callback(connection.close)
        connection.set_busy_timeout(1_000)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        version = connection.pragma("user_version")
        if version not in {0, _SCHEMA_VERSION}:
            raise apsw.CorruptError(f"the replica has the layout {version}, not {_SCHEMA_VERSION}")
        if version == 0:
            with connection:
                connection.execute(_SCHEMA)
        on_failure.pop_all()
        return connection
