"""A worker's journal: what is appended while it commits is its next transaction."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from shim.errors import StartError
from shim.journal.entry import ENTRY_BYTES, Entry, EntryKind, JournalError, JournalFullError
from shim.journal.entry_file import DAMAGE, DamagedError, EntryFile, move_aside
from shim.journal.folder import next_name
from shim.journal.marks import Marks
from shim.journal.slots import take_slot
from shim.metrics import JournalMetrics

_log = logging.getLogger(__name__)

MAX_WAITING_ENTRIES = 10_000
MAX_WAITING_BYTES = 32 * 2**20
_MAX_GROUP_ENTRIES = 500
_MAX_GROUP_BYTES = 4 * 2**20
_TIDY_SECONDS = 1.0
_SYNC_FAILURES = {apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC}
Settle = Callable[[JournalError | None], None]


class _Append(NamedTuple):
    kind: EntryKind
    payload: bytes
    settle: Settle


class Journal:
    """One worker's own file and the thread that writes it. Made on the event loop that its callers live on."""

    def __init__(
        self,
        folder: Path,
        slot: int,
        marks: Marks,
        *,
        max_bytes: int,
        metrics: JournalMetrics,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the file of that slot, or of the next free one. One that can't be read is moved aside.

        `max_bytes` bounds all files of the host together. Raises `StartError` when the folder can't be written.
        """
        self._folder = folder
        self._marks = marks
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting_entries = 0
        self._waiting_bytes = 0
        self._is_closed = False
        self._was_broken = False
        self._is_suspect = False
        """Whether what is appended to the file from now on might not be there after a power failure."""
        self._file: EntryFile | None = None
        try:
            self.slot, self._lock = take_slot(folder, slot)
            self._open()
        except (OSError, apsw.Error) as error:
            raise StartError(
                f"can't write in {folder}: {error}; make it writable, or choose another folder with --state-dir"
            ) from error
        metrics.waiting_entries.set_function(lambda: self._waiting_entries)
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def append(self, kind: EntryKind, payload: bytes, settle: Settle) -> None:
        """Keep an entry. `settle` is called once, on the loop: with None when it is on disk and all workers know.

        Never calls `settle` before it returns; `settle` must not raise. Raises `JournalFullError` when the host's
        files hold as much as they may or too much waits, and `JournalError` when the journal is closed.
        """
        if self._is_closed:
            raise JournalError("the journal is closed")
        size = len(payload) + ENTRY_BYTES
        if (
            self._waiting_entries >= MAX_WAITING_ENTRIES
            or self._waiting_bytes + size > MAX_WAITING_BYTES
            or self._marks.bytes_waiting() + self._waiting_bytes + size > self._max_bytes
        ):
            self._metrics.refused.inc()
            raise JournalFullError("the journal is full")
        self._waiting_entries += 1
        self._waiting_bytes += size
        self._queue.put(_Append(kind, payload, settle))

    async def close(self) -> None:
        """Write what waits, then close the file and give the slot back. A repeat does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # what the thread asked the loop to settle comes first
        self._lock.close()

    def _open(self) -> None:
        path = self._folder / f"{self.slot}.db"
        first = self._marks.committed(self.slot) + 1
        if self._is_suspect and path.exists():
            self._move_aside(path, "it could not be synced")
        self._is_suspect = False
        try:
            self._file = EntryFile(path, first_number=first)
        except DAMAGE as damage:
            self._move_aside(path, str(damage))
            self._file = EntryFile(path, first_number=first)
        self._marks.set_stamp(self.slot, max(self._file.last_stamp, self._marks.last_stamp()))
        if self._file.last_number > self._marks.committed(self.slot):
            self._marks.set_committed(self.slot, self._file.last_number)

    def _move_aside(self, path: Path, reason: str) -> None:
        aside = next_name(self._folder, self.slot, "torn")
        _log.error("journal_unreadable", extra={"slot": self.slot, "reason": reason, "kept_as": aside.name})
        move_aside(path, aside)

    def _work(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._next_group()
            if group:
                error = self._store(group)
                self._loop.call_soon_threadsafe(self._settle, group, error)
            else:
                self._tidy()
        self._drop_file()

    def _next_group(self) -> tuple[list[_Append], bool]:
        """Wait for what is to be written; nothing came in a second, or this was the last: an empty or last group."""
        group: list[_Append] = []
        size = 0
        try:
            while len(group) < _MAX_GROUP_ENTRIES and size < _MAX_GROUP_BYTES:
                item = self._queue.get(timeout=_TIDY_SECONDS) if not group else self._queue.get_nowait()
                if item is None:
                    return group, False
                group.append(item)
                size += len(item.payload)
        except queue.Empty:
            pass
        return group, True

    def _store(self, group: Sequence[_Append]) -> JournalError | None:
        started_at = time.monotonic()
        try:
            try:
                self._write(group)
            except DAMAGE:
                # It was good when it was opened. A new one takes over, and the drainer reads what is left of it.
                self._drop_file()
                self._write(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear of it
            # After a failed fsync the system says nothing of the lost pages again: what follows them, synced or not,
            # would end with them. So a new file begins, and the drainer reads what is left of this one.
            self._is_suspect |= getattr(error, "extendedresult", 0) in _SYNC_FAILURES
            self._drop_file()
            if not self._was_broken:
                # Once, not at every try meanwhile.
                _log.error("journal_broken", extra={"reason": str(error)})
            self._was_broken = True
            self._metrics.broken.inc(len(group))
            return JournalError("the journal can't be written")
        self._was_broken = False
        self._metrics.appended.inc(len(group))
        self._metrics.commit_seconds.observe(time.monotonic() - started_at)
        return None

    def _write(self, group: Sequence[_Append]) -> None:
        if self._file is None:
            self._open()
        file = self._file
        if file is None:
            raise DamagedError("it can't be opened")
        stamp = max(self._clock(), self._marks.last_stamp() + 1)
        first = file.last_number + 1
        entries = [
            Entry(first + place, stamp + place, int(item.kind), item.payload) for place, item in enumerate(group)
        ]
        file.append(entries, handed=self._marks.handed(self.slot))
        # In this order: who sees the entries finds a later stamp for its own.
        self._marks.set_stamp(self.slot, entries[-1].stamp)
        self._marks.set_committed(self.slot, entries[-1].number)
        self._marks.add_bytes(self.slot, sum(len(item.payload) + ENTRY_BYTES for item in group))

    def _tidy(self) -> None:
        """Give the disk back what was handed over, and leave no word of it, while nothing else is to be done."""
        try:
            while self._file and self._queue.empty() and self._file.tidy(self._marks.handed(self.slot)):
                pass
        except apsw.Error as error:
            # What can't be deleted now can be later; what is damaged shows at the next append.
            _log.warning("journal_not_pruned", extra={"reason": str(error)})
            self._drop_file()

    def _drop_file(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _settle(self, group: Sequence[_Append], error: JournalError | None) -> None:
        for item in group:
            self._waiting_entries -= 1
            self._waiting_bytes -= len(item.payload) + ENTRY_BYTES
            item.settle(error)
