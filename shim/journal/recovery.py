"""Makes a good file of what can be read of a damaged one."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import apsw

from shim.journal.entry import Entry
from shim.journal.entry_file import COMPANIONS, DAMAGE, EntryFile, check_version, read_extent, sync_folder
from shim.journal.folder import JournalName, name_of
from shim.journal.progress import Progress
from shim.journal.raw_pages import read_entries

_log = logging.getLogger(__name__)

_AT_ONCE = 1_000


def copy_torn(path: Path, torn: Path) -> None:
    """Copy a file that its worker still has open, its WAL first: what goes from there into the file isn't missed."""
    unfinished = torn.with_suffix(".copy")
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, torn.with_name(torn.name + "-wal"))
    shutil.copyfile(path, unfinished)
    unfinished.replace(torn)


def recover(torn: JournalName, progress: Progress) -> None:
    """Put what can be read of a torn file and was not handed over into a recovered one; keep the damaged one.

    May be done again after a crash at any point: then some of it is handed over twice, which does no harm.
    Raises `OSError` or `apsw.Error` when there is no room for it; then nothing has changed.
    """
    folder = torn.path.parent
    handed = _find_handed(torn.path, progress)
    unfinished = torn.path.with_suffix(".recovering")
    for leftover in (unfinished, *(unfinished.with_name(unfinished.name + companion) for companion in COMPANIONS)):
        leftover.unlink(missing_ok=True)
    with _staged(torn.path.with_suffix(".sorting"), read_entries(torn.path), handed) as entries:
        count = _write(unfinished, entries)
    if count:
        unfinished.replace(name_of(folder, torn.slot, "recovered", torn.number))
    else:
        unfinished.unlink(missing_ok=True)
    kept_as = name_of(folder, torn.slot, "damaged", torn.number)
    wal = torn.path.with_name(torn.path.name + "-wal")
    torn.path.replace(kept_as)
    torn.path.with_name(torn.path.name + "-shm").unlink(missing_ok=True)
    if wal.exists():
        wal.replace(kept_as.with_name(kept_as.name + "-wal"))
    sync_folder(folder)
    _log.error("journal_damaged", extra={"slot": torn.slot, "recovered": count, "kept_as": kept_as.name})


def _find_handed(path: Path, progress: Progress) -> int:
    """Return the last number that was handed over of a file; 0 when the file doesn't say who it is."""
    try:
        with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            check_version(path, connection)  # without its beginning, SQLite would delete the WAL
            file_id, _, last = read_extent(connection, is_whole=False)
    except (*DAMAGE, apsw.Error):
        return 0
    handed = progress.find(file_id)
    return handed if handed <= last else 0


@contextlib.contextmanager
def _staged(path: Path, entries: Iterator[Entry], handed: int) -> Iterator[Iterator[Entry]]:
    """Sort entries by stamp, each once, with new numbers; on disk, because there may be more than memory."""
    path.unlink(missing_ok=True)
    try:
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.pragma("journal_mode", "off")
            connection.pragma("synchronous", "off")
            connection.execute(
                "CREATE TABLE entry (stamp INTEGER, number INTEGER, checksum BLOB, kind INTEGER, payload BLOB,"
                " PRIMARY KEY (stamp, number, checksum)) STRICT, WITHOUT ROWID"
            )
            with connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?)",
                    ((e.stamp, e.number, e.checksum, e.kind, e.payload) for e in entries if e.number > handed),
                )
            rows = connection.execute("SELECT stamp, kind, payload FROM entry ORDER BY stamp, number")
            yield (Entry(number, *row) for number, row in enumerate(rows, 1))
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, entries: Iterator[Entry]) -> int:
    count = 0
    with contextlib.closing(EntryFile(path, first_number=1)) as file:
        while group := list(islice(entries, _AT_ONCE)):
            file.append(group, handed=0)
            count += len(group)
    return count
