"""One file of the journal, as the drainer reads it."""

import contextlib
from typing import NamedTuple

import apsw

from shim.journal.entry import Entry, Parcel
from shim.journal.entry_file import DamagedError, check_version, read_extent
from shim.journal.folder import JournalName
from shim.journal.marks import RECOVERED
from shim.journal.progress import Progress


class Source:
    """One file."""

    def __init__(self, name: JournalName, progress: Progress) -> None:
        """Open the file. Raises one of `DAMAGE`, `apsw.Error` or `OSError` when it can't be read."""
        self.path = name.path
        self.slot = name.slot
        self.place = RECOVERED if name.state else name.slot
        """Where its marks are."""
        self.inode = name.path.stat().st_ino
        with contextlib.ExitStack() as on_failure:
            self._connection = apsw.Connection(str(name.path), flags=apsw.SQLITE_OPEN_READONLY)
            on_failure.callback(self._connection.close)
            self._connection.set_busy_timeout(100)
            check_version(name.path, self._connection)
            self.file_id, first, self.last = read_extent(self._connection)
            on_failure.pop_all()
        recorded = progress.find(self.file_id)
        self.handed = max(first - 1, recorded if recorded <= self.last else 0)

    @property
    def size(self) -> int:
        """Return how large the file is."""
        wal = self.path.with_name(self.path.name + "-wal")
        return self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    def read_last_stamp(self) -> int:
        """Return the stamp of the last entry; 0 when there is none."""
        row = self._connection.execute("SELECT stamp FROM entry WHERE number = ?", (self.last,)).fetchone()
        return row[0] if row else 0

    def refresh(self) -> None:
        """Look again where the file ends."""
        _, _, self.last = read_extent(self._connection)

    def read(self, up_to: int, *, limit: int, max_bytes: int) -> list[Entry]:
        """Return the next entries that wait, none of them later than `up_to`.

        Raises one of `DAMAGE` when one is missing or not what it was.
        """
        entries: list[Entry] = []
        size = 0
        rows = self._connection.execute(
            "SELECT number, stamp, kind, payload, checksum FROM entry WHERE number > ? AND number <= ?"
            " ORDER BY number LIMIT ?",
            (self.handed, up_to, limit),
        )
        for *columns, checksum in rows:
            entry = Entry(*columns)
            if entry.number != self.handed + len(entries) + 1 or entry.checksum != checksum:
                raise DamagedError("an entry is not what it was")
            entries.append(entry)
            size += len(entry.payload)
            if size >= max_bytes:
                rows.close()
                return entries
        if len(entries) < min(limit, up_to - self.handed):
            raise DamagedError("entries are missing")
        return entries

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Waiting(NamedTuple):
    """An entry and where it comes from."""

    source: Source
    entry: Entry

    @property
    def parcel(self) -> Parcel:
        """The entry as it is handed over."""
        return Parcel(f"j-{self.source.file_id}-{self.entry.number}", self.entry)
