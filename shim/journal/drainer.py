"""The host's one drainer: hands over what all its journals hold, oldest first, as soon as the service takes it.

Its hand-over is the only probe of whether the service is back. A failed one is repeated with a single entry, after a
pause that grows to a second: hours of it cost next to nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import apsw

from shim.errors import ServiceUnavailableError, StartError
from shim.journal.handover import Handover
from shim.journal.marks import Marks
from shim.journal.progress import Progress
from shim.journal.slots import Lock
from shim.journal.source import Waiting
from shim.journal.sources import Sources
from shim.link import Link
from shim.metrics import JournalMetrics

_log = logging.getLogger(__name__)

_MAX_ENTRIES = 500
_MAX_BYTES = 2**21 - 2**16
_LOOK_SECONDS = 0.05
"""How often the marks are looked at."""
_SCAN_SECONDS = 1.0
"""How often the folder is looked at while nothing waits: for what workers that are gone left."""
_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JournalState:
    """How the host's journal is."""

    messages: int
    """Entries that wait for the service."""
    bytes: int
    oldest_at: float | None
    """When the oldest of them was received, in seconds since 1970; None when nothing waits."""
    journalling_since: float | None
    """Since when something waits without a break; None when nothing does."""
    damaged: int
    """Damaged files that are kept."""
    last_failure: str | None
    """Why the last hand-over failed; None when it did not."""
    kept_aside: int = 0
    """Entries that neither the service nor its quarantine takes, kept in `handed.db`."""


class Drainer:
    """Merges all files of the folder, and hands them over. Another drainer of the folder waits until it is gone."""

    def __init__(self, folder: Path, marks: Marks, link: Link, *, metrics: JournalMetrics) -> None:
        """Set the marks by what the files hold, before anything new is accepted.

        Raises `StartError` when the folder can't be written.
        """
        self._marks = marks
        self._metrics = metrics
        self._folder = folder
        self._lock: Lock | None = None
        self._progress: Progress | None = None
        self._sources: Sources | None = None
        self._handover = Handover(link, self._keep_aside, metrics)
        # All that reads files happens on one thread, one thing after another.
        self._thread = ThreadPoolExecutor(1, "drainer")
        self._failure: str | None = None
        self._failures = 0
        self._oldest_at: float | None = None
        self._since: float | None = None
        self._kept_aside = 0
        try:
            self._lock = Lock(folder / "drainer.lock")
            self._is_alone = self._lock.is_taken()
            if self._is_alone:
                self._open()
        except (OSError, apsw.Error) as error:
            raise StartError(
                f"can't write in {folder}: {error}; make it writable, or choose another folder with --state-dir"
            ) from error
        metrics.messages.set_function(marks.entries_waiting)
        metrics.bytes.set_function(marks.bytes_waiting)
        metrics.oldest_seconds.set_function(lambda: time.time() - self._oldest_at if self._oldest_at else 0)
        metrics.damaged.set_function(lambda: self.state.damaged)

    @property
    def state(self) -> JournalState:
        """How the journal is now."""
        is_empty = self._marks.is_empty()
        return JournalState(
            messages=self._marks.entries_waiting(),
            bytes=self._marks.bytes_waiting(),
            oldest_at=None if is_empty else self._oldest_at,
            journalling_since=None if is_empty else self._since,
            damaged=self._sources.damaged if self._sources else 0,
            last_failure=self._failure,
            kept_aside=self._kept_aside,
        )

    async def run(self) -> NoReturn:
        """Hand over for ever. When cancelled, everything is closed."""
        try:
            await self._wait_for_turn()
            scan_at = 0.0
            while True:
                now = asyncio.get_running_loop().time()
                if not self._marks.is_empty():
                    await self._try()
                    continue
                self._note_empty()
                if now >= scan_at:
                    scan_at = now + _SCAN_SECONDS
                    await self._do(self._scan)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.close()

    async def hand_over_all(self) -> JournalState:
        """Hand over until nothing waits; then everything is closed. Returns how the journal is in the end."""
        try:
            await self._wait_for_turn()
            await self._do(self._scan)
            while not self._marks.is_empty():
                await self._try()
            await self._do(self._scan)  # what is empty is deleted
            self._note_empty()
            return self.state
        finally:
            self.close()

    def close(self) -> None:
        """Finish what is being read or written, and close everything. A repeat does nothing."""
        self._thread.shutdown(wait=True)
        for gauge in (self._metrics.messages, self._metrics.bytes, self._metrics.oldest_seconds, self._metrics.damaged):
            gauge.set_function(float)  # 0: the marks may be gone from now on
        if self._sources:
            self._sources.close()
        if self._progress:
            self._progress.close()
        if self._lock:
            self._lock.close()
        self._sources = self._progress = self._lock = None

    def _open(self) -> None:
        self._progress = Progress(self._folder)
        self._kept_aside = self._progress.count_aside()
        self._sources = Sources(self._folder, self._marks, self._progress)
        self._sources.rebuild_marks()

    async def _wait_for_turn(self) -> None:
        while not self._is_alone:
            await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
            self._is_alone = bool(self._lock and self._lock.is_taken())
            if self._is_alone:
                _log.info("journal_taken_over")
                await self._do(self._open)

    async def _try(self) -> None:
        """Hand over the next entries, or pause because that failed."""
        try:
            # While the service is away, one entry is probe enough.
            limit = 1 if self._failures else _MAX_ENTRIES
            entries = await self._do(lambda: self._read(limit))
            self._note(entries)
            if entries:
                await self._handover.hand_over(entries)
                await self._do(lambda: self._settle(entries))
                self._succeed()
                return
            await asyncio.sleep(_LOOK_SECONDS)
        except (ServiceUnavailableError, apsw.Error, OSError) as error:
            await self._fail(error)

    async def _fail(self, error: Exception) -> None:
        reason = str(error)
        if self._failure != reason:
            # Once for each time that it goes wrong in another way, not at every try meanwhile.
            _log.warning("hand_over_failed", extra={"reason": reason, "messages": self._marks.entries_waiting()})
        self._failure = reason
        pause = min(_LONGEST_PAUSE_SECONDS, _SHORTEST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads the hosts

    def _succeed(self) -> None:
        self._failures = 0
        self._failure = None

    def _note(self, entries: Sequence[Waiting]) -> None:
        if entries:
            self._oldest_at = entries[0].entry.stamp / 1e9
        if self._since is None:
            self._since = self._oldest_at or time.time()
            _log.warning("journalling", extra={"messages": self._marks.entries_waiting()})

    def _note_empty(self) -> None:
        if self._since is not None:
            _log.info("journal_empty", extra={"seconds": round(time.time() - self._since, 1)})
        self._since = self._oldest_at = None
        self._succeed()

    def _scan(self) -> None:
        if self._sources:
            self._sources.scan()

    def _read(self, limit: int) -> Sequence[Waiting]:
        return self._sources.read(limit=limit, max_bytes=_MAX_BYTES) if self._sources else []

    def _settle(self, entries: Sequence[Waiting]) -> None:
        if self._sources:
            self._sources.settle(entries)

    def _keep_aside(self, waiting: Waiting, reason: str) -> None:
        if self._progress:
            _, stamp, kind, payload = waiting.entry
            self._progress.keep_aside(waiting.entry_id, stamp, kind, payload, reason)
            self._kept_aside += 1

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
