"""The files of the host's journal, as the drainer reads them: it writes to none.

Nothing here waits for a worker: a frozen one keeps its file, of which everything that it committed can be read.
"""

import contextlib
import heapq
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import apsw

from shim.journal.entry import ENTRY_BYTES
from shim.journal.entry_file import COMPANIONS, DAMAGE, DamagedError, move_aside
from shim.journal.folder import JournalName, list_names, next_name
from shim.journal.marks import RECOVERED, SLOTS, Marks
from shim.journal.progress import Progress
from shim.journal.recovery import copy_torn, recover
from shim.journal.slots import find_free, was_taken
from shim.journal.source import Source, Waiting

_log = logging.getLogger(__name__)


class Sources:
    """All files of the host, and the marks that follow from them."""

    def __init__(self, folder: Path, marks: Marks, progress: Progress) -> None:
        self._folder = folder
        self._marks = marks
        self._progress = progress
        self._open: dict[Path, Source] = {}
        self._complaints: set[Path] = set()
        self.damaged = 0
        """How many damaged files are kept."""

    def rebuild_marks(self) -> None:
        """Set the marks of all slots that nobody holds by what is in their files."""
        files = {name.slot for name in list_names(self._folder) if not name.state}
        for slot in range(SLOTS):
            if slot not in files:
                self._clear_if_free(slot, is_stamp_kept=False)
        self._marks.clear(RECOVERED)
        self._marks.set_stamp(RECOVERED, 0)
        self.scan()
        for source in self._open.values():
            if _is_recovered(source):
                self._marks.add_bytes(RECOVERED, source.size)
                self._marks.set_stamp(RECOVERED, max(self._marks.stamp(RECOVERED), source.read_last_stamp()))
            elif lock := find_free(self._folder, source.slot):
                with contextlib.closing(lock):
                    self._marks.set_bytes_of_a_free_slot(source.slot, source.size)
                    self._marks.set_stamp(source.slot, source.read_last_stamp())

    def scan(self) -> None:
        """Find new files, and those whose worker is gone; make good ones of the damaged, delete the empty."""
        for name in list(list_names(self._folder)):
            if not name.state:
                self._look_at(name)
        self._recover_all()
        self._close_missing()
        # What was moved aside is counted before the file in whose place it was counts as empty.
        self._mark_recovered()
        for source in list(self._open.values()):
            if not _is_recovered(source):
                self._marks.set_handed(source.slot, source.handed)
            if source.handed >= source.last:
                self._delete_if_over(source)
        self._close_marks_without_file()

    def read(self, *, limit: int, max_bytes: int) -> list[Waiting]:
        """Return the oldest entries that wait, oldest first."""
        while True:
            committed = self._marks.snapshot()
            # After the snapshot: what it tells of is in a file that is found now, whatever its name.
            self.scan()
            pieces = [self._read_source(source, committed, limit, max_bytes) for source in list(self._open.values())]
            whole = [piece for piece in pieces if piece is not None]
            if len(whole) == len(pieces):
                break
        merged = heapq.merge(*whole, key=lambda waiting: (waiting.entry.stamp, waiting.source.slot))
        return list(_take(islice(merged, limit), max_bytes))

    def settle(self, done: Sequence[Waiting]) -> None:
        """Remember what was handed over: entries as they were read, in order."""
        for source, entry in done:
            source.handed = entry.number
            self._marks.add_bytes_handed(source.place, len(entry.payload) + ENTRY_BYTES)
        self._progress.record({source.file_id: source.handed for source, _ in done})
        self._mark_recovered()
        for source in self._open.values():
            if not _is_recovered(source):
                self._marks.set_handed(source.slot, source.handed)

    def close(self) -> None:
        """Close all files."""
        for source in self._open.values():
            source.close()
        self._open.clear()

    def _look_at(self, name: JournalName) -> None:
        """Open a worker's file; if the worker is gone, take in what it left behind."""
        lock = find_free(self._folder, name.slot)
        with contextlib.closing(lock) if lock else contextlib.nullcontext():
            try:
                source = self._find_source(name)
                if lock:
                    # The lock is held meanwhile, so that no worker comes back.
                    self._take_in(source)
            except (*DAMAGE, apsw.Error, OSError) as error:
                self._close_source(name.path)
                if lock and isinstance(error, DAMAGE):
                    self._tear(name, error)
                else:
                    # A worker that lives finds the damage itself, and moves the file aside.
                    self._complain(name.path, error)

    def _take_in(self, source: Source) -> None:
        source.refresh()
        committed = self._marks.committed(source.slot)
        if source.last < committed:
            raise DamagedError("its last entries are missing")
        if source.last > committed:
            self._marks.set_committed(source.slot, source.last)

    def _find_source(self, name: JournalName) -> Source:
        source = self._open.get(name.path)
        if source and source.inode != name.path.stat().st_ino:
            self._close_source(name.path)
            source = None
        if source is None:
            source = self._open[name.path] = Source(name, self._progress)
            self._complaints.discard(name.path)
        return source

    def _read_source(
        self, source: Source, committed: Sequence[int], limit: int, max_bytes: int
    ) -> list[Waiting] | None:
        """Return what comes next of one file; None when the file was damaged, and all is to be read again."""
        up_to = source.last if _is_recovered(source) else committed[source.slot]
        try:
            entries = source.read(up_to, limit=limit, max_bytes=max_bytes)
        except DAMAGE as damage:
            return None if self._give_up(source, up_to, damage) else []
        except apsw.Error as error:
            self._complain(source.path, error)
            return []
        return [Waiting(source, entry) for entry in entries]

    def _give_up(self, source: Source, up_to: int, damage: Exception) -> bool:
        """Have a damaged file recovered; False when there is no room for that now."""
        name = next((name for name in list_names(self._folder) if name.path == source.path), None)
        if name is None or name.path.stat().st_ino != source.inode:
            self._close_source(source.path)  # its worker found out first, and has moved it aside
            return True
        lock = None if name.state else find_free(self._folder, name.slot)
        with contextlib.closing(lock) if lock else contextlib.nullcontext():
            if lock or name.state:
                self._close_source(name.path)
                self._tear(name, damage)
                return True
            try:
                copy_torn(source.path, next_name(self._folder, source.slot, "torn"))
            except OSError as error:
                self._complain(source.path, error)
                return False
        self._recover_all()
        # Its worker goes on with it: only what comes after is read from it.
        source.handed = up_to
        self._progress.record({source.file_id: up_to})
        return True

    def _tear(self, name: JournalName, damage: Exception) -> None:
        torn = next_name(self._folder, name.slot, "torn")
        _log.error("journal_unreadable", extra={"slot": name.slot, "reason": str(damage), "kept_as": torn.name})
        move_aside(name.path, torn)

    def _recover_all(self) -> None:
        for name in list(list_names(self._folder)):
            try:
                if name.state == "torn":
                    recover(name, self._progress)
            except (apsw.Error, OSError) as error:
                self._complain(name.path, error)
        for name in list(list_names(self._folder)):
            if name.state == "recovered" and name.path not in self._open:
                self._open_recovered(name)
        self.damaged = sum(name.state == "damaged" for name in list_names(self._folder))

    def _open_recovered(self, name: JournalName) -> None:
        try:
            self._open[name.path] = Source(name, self._progress)
        except DAMAGE as damage:
            self._tear(name, damage)
        except (apsw.Error, OSError) as error:
            self._complain(name.path, error)

    def _close_missing(self) -> None:
        for path in [path for path in self._open if not path.exists()]:
            self._close_source(path)

    def _close_source(self, path: Path) -> None:
        if source := self._open.pop(path, None):
            source.close()

    def _mark_recovered(self) -> None:
        """Count what was recovered, and each file that can't be recovered now as one."""
        waiting = sum(source.last - source.handed for source in self._open.values() if _is_recovered(source))
        unopened = sum(
            name.state == "torn" or (name.state == "recovered" and name.path not in self._open)
            for name in list_names(self._folder)
        )
        self._marks.set_committed(RECOVERED, waiting + unopened)
        if not waiting + unopened:
            self._marks.set_bytes_of_a_free_slot(RECOVERED, 0)

    def _delete_if_over(self, source: Source) -> None:
        """Delete a file that nobody writes to any more and that is handed over."""
        lock = None if _is_recovered(source) else find_free(self._folder, source.slot)
        if not lock and not _is_recovered(source):
            return
        with contextlib.closing(lock) if lock else contextlib.nullcontext():
            try:
                source.refresh()
            except (*DAMAGE, apsw.Error):
                return  # seen at the next look
            if source.handed < source.last:
                return
            if lock:
                self._marks.set_committed(source.slot, max(self._marks.committed(source.slot), source.last))
            self._close_source(source.path)
            for companion in COMPANIONS:
                source.path.with_name(source.path.name + companion).unlink(missing_ok=True)
            source.path.unlink()
            self._progress.forget(source.file_id)

    def _close_marks_without_file(self) -> None:
        """Let slots count as empty whose file is deleted or moved aside."""
        slots = {name.slot for name in list_names(self._folder) if not name.state}
        for slot in self._marks.find_open():
            if slot not in slots:
                self._clear_if_free(slot, is_stamp_kept=True)

    def _clear_if_free(self, slot: int, *, is_stamp_kept: bool) -> None:
        lock = find_free(self._folder, slot) if was_taken(self._folder, slot) else None
        with contextlib.closing(lock) if lock else contextlib.nullcontext():
            is_free = lock or not was_taken(self._folder, slot)
            if is_free and not (self._folder / f"{slot}.db").exists():
                self._marks.clear(slot)
                if not is_stamp_kept:
                    self._marks.set_stamp(slot, 0)

    def _complain(self, path: Path, error: Exception) -> None:
        if path not in self._complaints:
            # Once for each file, not at every look.
            _log.error("journal_not_read", extra={"file": path.name, "reason": str(error)})
        self._complaints.add(path)


def _is_recovered(source: Source) -> bool:
    return source.place == RECOVERED


def _take(entries: Iterator[Waiting], max_bytes: int) -> Iterator[Waiting]:
    size = 0
    for number, waiting in enumerate(entries):
        size += len(waiting.entry.payload)
        if number and size > max_bytes:
            return
        yield waiting
