"""How far each file is handed over, and what is kept aside: the drainer's own file.

Whatever is lost of the former is handed over again, which the service settles as duplicates: so no fsync, a row whose
checksum is wrong counts as none, and a file that can't be read makes room for a new one.
"""

import contextlib
import logging
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw

from shim.errors import StartError
from shim.journal.entry import Entry, Parcel
from shim.journal.entry_file import empty_wal

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS handed (file_id TEXT PRIMARY KEY, number INTEGER NOT NULL, checksum BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS aside (
  entry_id TEXT PRIMARY KEY,
  stamp INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  payload BLOB NOT NULL,
  reason TEXT NOT NULL
) STRICT;
"""


class Progress:
    """What was handed over."""

    def __init__(self, folder: Path) -> None:
        """Open or create the file. Raises `StartError` when it can't be written."""
        path = folder / "handed.db"
        try:
            self._connection = _open_or_replace(path)
            rows = _read(self._connection)
        except (OSError, apsw.Error) as error:
            raise StartError(
                f"can't write in {folder}: {error}; make it writable, or choose another folder with --state-dir"
            ) from error
        self._handed: dict[str, int] = {
            file_id: number for file_id, number, checksum in rows if checksum == _checksum(file_id, number)
        }
        self._was_broken = False

    def find(self, file_id: str) -> int:
        """Return the number of the last entry of a file that was handed over; 0 when none was."""
        return self._handed.get(file_id, 0)

    def record(self, handed: dict[str, int]) -> None:
        """Remember how far files are handed over: in memory in any case, on disk if that can be written."""
        self._handed |= handed
        self._try(
            "INSERT OR REPLACE INTO handed VALUES (?, ?, ?)",
            [(file_id, number, _checksum(file_id, number)) for file_id, number in handed.items()],
        )

    def forget(self, file_id: str) -> None:
        """Forget a file that is deleted."""
        self._handed.pop(file_id, None)
        self._try("DELETE FROM handed WHERE file_id = ?", [(file_id,)])

    def keep_aside(self, parcel: Parcel, reason: str) -> None:
        """Keep what nobody takes, on disk when this returns. Raises `apsw.Error`."""
        entry_id, (_, stamp, kind, payload) = parcel
        self._connection.pragma("synchronous", "full")
        try:
            with self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)", (entry_id, stamp, kind, payload, reason)
                )
        finally:
            self._connection.pragma("synchronous", "normal")

    def count_aside(self) -> int:
        """Return how much is kept aside."""
        count = self._connection.execute("SELECT count(*) FROM aside").fetchone()
        return count[0] if count else 0

    def list_aside(self) -> list[str]:
        """Return the ids of what is kept aside, oldest first."""
        return [str(entry_id) for (entry_id,) in self._connection.execute("SELECT entry_id FROM aside ORDER BY stamp")]

    def load_aside(self, entry_id: str) -> Parcel:
        """Return what is kept aside under that id."""
        rows: list[Any] = self._connection.execute(
            "SELECT stamp, kind, payload FROM aside WHERE entry_id = ?", (entry_id,)
        ).fetchall()
        ((stamp, kind, payload),) = rows
        return Parcel(entry_id, Entry(0, stamp, kind, payload))

    def drop_aside(self, parcel: Parcel) -> None:
        """Let go of what was kept aside, once somebody took it; no word of it is left."""
        self._try("DELETE FROM aside WHERE entry_id = ?", [(parcel.entry_id,)])
        with contextlib.suppress(apsw.Error):  # of which the statement before has told, or the next one will
            empty_wal(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _try(self, statement: str, rows: Sequence[tuple[str | int | bytes, ...]]) -> None:
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except apsw.Error as error:
            if not self._was_broken:
                _log.warning("journal_progress_not_written", extra={"reason": str(error)})
            self._was_broken = True
        else:
            self._was_broken = False


def _open_or_replace(path: Path) -> apsw.Connection:
    path.touch(mode=0o600)
    try:
        return _open(path)
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError):
        aside = path.with_suffix(".unreadable")
        _log.error("journal_progress_unreadable", extra={"kept_as": aside.name})
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
        connection.pragma("secure_delete", "on")
        with connection:
            connection.execute(_SCHEMA)
        _read(connection)
        on_failure.pop_all()
        return connection


def _read(connection: apsw.Connection) -> list[tuple[str, int, bytes]]:
    rows = connection.execute("SELECT file_id, number, checksum FROM handed")
    return [(str(file_id), int(str(number)), bytes(checksum)) for file_id, number, checksum in rows]


def _checksum(file_id: object, number: object) -> bytes:
    return blake2b(f"{file_id} {number}".encode(), digest_size=8).digest()
