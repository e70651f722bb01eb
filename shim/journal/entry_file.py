"""One worker's file, as its only writer sees it.

WAL with synchronous=FULL: one fdatasync a transaction. Every entry has a number without gaps, so that a reader knows
what is missing; the one row of `file` says where they begin, and `sqlite_sequence` where they end.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import apsw

from shim.journal.entry import Entry

PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE entry (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  stamp INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  payload BLOB NOT NULL,
  checksum BLOB NOT NULL
) STRICT;
CREATE TABLE file (
  file_id TEXT NOT NULL,
  first_number INTEGER NOT NULL,
  checksum BLOB NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""
_PRUNED_AT_ONCE = 2_000
_PAGES_FREED_AT_ONCE = 1_000
_BUSY_MS = 1_000
COMPANIONS = ("-wal", "-shm")


class DamagedError(Exception):
    """A file says what cannot be: its disk, or somebody, changed it."""


class EntryFile:
    """An open file, for its writer. What fails raises `apsw.Error` and has changed nothing."""

    def __init__(self, path: Path, *, first_number: int) -> None:
        """Open the file, or create it with entries from that number on.

        Raises `DamagedError` or `apsw.Error` when it can't be read.
        """
        if not path.exists():
            _create(path, first_number)
        with contextlib.ExitStack() as on_failure:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            on_failure.callback(self._connection.close)
            # A file that turns out to be damaged keeps its WAL, where the rest may be.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            check_version(path, self._connection)
            _prepare(self._connection)
            self.file_id, self.first_number, self.last_number = read_extent(self._connection)
            if self.last_number < first_number - 1:
                raise DamagedError("its last entries are missing")
            row = self._connection.execute("SELECT stamp FROM entry WHERE number = ?", (self.last_number,)).fetchone()
            self.last_stamp: int = row[0] if row else 0
            self._has_traces = True
            """Whether its pages or its WAL may hold what was handed over."""
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            on_failure.pop_all()

    def append(self, entries: Sequence[Entry], *, handed: int) -> None:
        """Have the entries on disk when this returns, and some of those that were handed over deleted."""
        self._has_traces = True
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", [(*entry, entry.checksum) for entry in entries]
            )
            pruned_to = self._prune(handed)
        self.last_number = entries[-1].number
        self.first_number = pruned_to

    def tidy(self, handed: int) -> bool:
        """Take a step to a file without what was handed over; False when there is none to take now.

        A slice of entries is deleted, or a slice of free pages is given back; or, when nothing waits any more, the WAL
        is emptied: no word of any message is left then.
        """
        if min(handed, self.last_number) >= self.first_number:
            with self._transaction():
                pruned_to = self._prune(handed)
            self.first_number = pruned_to
            return True
        if not self._has_traces:
            return False
        if self._connection.pragma("freelist_count"):
            self._connection.execute(f"PRAGMA incremental_vacuum({_PAGES_FREED_AT_ONCE})").fetchall()
            return True
        if self.first_number > self.last_number:
            self._has_traces = not empty_wal(self._connection)
        return False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prune(self, handed: int) -> int:
        """Delete a slice; return the first number that is left."""
        last = min(handed, self.last_number, self.first_number + _PRUNED_AT_ONCE - 1)
        if last < self.first_number:
            return self.first_number
        self._connection.execute("DELETE FROM entry WHERE number <= ?", (last,))
        self._connection.execute(
            "UPDATE file SET first_number = ?, checksum = ?", (last + 1, _checksum(self.file_id, last + 1))
        )
        return last + 1

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def read_extent(connection: apsw.Connection, *, is_whole: bool = True) -> tuple[str, int, int]:
    """Return the file's id and its first and last number; with none left, the first is one after the last.

    Raises `DamagedError` when they can't be right; unless `is_whole`, entries may be missing.
    """
    # One statement, for all of it to be of one instant.
    rows = connection.execute(
        "SELECT file_id, first_number, checksum, (SELECT seq FROM sqlite_sequence WHERE name = 'entry'),"
        " (SELECT min(number) FROM entry), (SELECT max(number) FROM entry) FROM file"
    ).fetchall()
    if len(rows) != 1 or rows[0][2] != _checksum(rows[0][0], rows[0][1]):
        raise DamagedError("what it says of itself is wrong")
    file_id, first, _, last, least, most = rows[0]
    if not isinstance(file_id, str) or not isinstance(first, int) or not isinstance(last, int):
        raise DamagedError("it doesn't say where it ends")
    if is_whole and (least, most) != ((first, last) if first <= last else (None, None)):
        raise DamagedError("entries are missing")
    return file_id, first, last


DAMAGE = (DamagedError, apsw.CorruptError, apsw.NotADBError, apsw.SQLError, apsw.MismatchError, apsw.FormatError)
"""What reading a file that was changed ends with."""


def check_version(path: Path, connection: apsw.Connection) -> None:
    """Raise `DamagedError` when this is no journal."""
    if path.stat().st_size < PAGE_BYTES or connection.pragma("user_version") == 0:
        raise DamagedError("its beginning is missing")


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_BUSY_MS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("journal_size_limit", 2**24)
    # What is deleted is overwritten in pages that stay; those that get free are given back anyway.
    connection.pragma("secure_delete", "fast")


def empty_wal(connection: apsw.Connection) -> bool:
    """Have all of the WAL in the file, and nothing in the WAL; False when somebody reads just now."""
    connection.set_busy_timeout(0)
    try:
        ((is_busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.set_busy_timeout(_BUSY_MS)
    return not is_busy


def _create(path: Path, first_number: int) -> None:
    """Create a file under another name first: what bears the name is complete."""
    new = path.with_name(path.name + ".new")
    # SQLite would take a WAL that a deleted file left for one of the new file.
    for name in (path.name, new.name):
        for companion in COMPANIONS:
            path.with_name(name + companion).unlink(missing_ok=True)
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    file_id = os.urandom(8).hex()
    with contextlib.closing(apsw.Connection(str(new))) as connection:
        connection.pragma("page_size", PAGE_BYTES)
        connection.pragma("auto_vacuum", "incremental")
        _prepare(connection)
        with connection:
            connection.execute(_SCHEMA)
            connection.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (first_number - 1,))
            connection.execute(
                "INSERT INTO file VALUES (?, ?, ?)", (file_id, first_number, _checksum(file_id, first_number))
            )
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of the files in a folder on disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _checksum(file_id: object, first_number: object) -> bytes:
    return blake2b(f"{file_id} {first_number}".encode(), digest_size=8).digest()


def move_aside(path: Path, aside: Path) -> None:
    """Give a file that can't be read another name, with what belongs to it."""
    if (wal := path.with_name(path.name + "-wal")).exists():
        wal.replace(aside.with_name(aside.name + "-wal"))
    path.replace(aside)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
