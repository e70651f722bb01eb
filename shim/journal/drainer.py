"""The host's one drainer: hands over what all its journals hold, oldest first, as soon as the service takes it.

Its hand-over is the only probe of whether the service is back. A failed one is repeated with a single entry, after a
pause that grows to a second: hours of it cost next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import apsw

from shim.errors import ServiceUnavailableError, StartError
from shim.journal.entry import Parcel
from shim.journal.marks import Marks
from shim.journal.progress import Progress
from shim.journal.slots import Lock
from shim.journal.source import Waiting
from shim.journal.sources import Sources
from shim.metrics import JournalMetrics

if TYPE_CHECKING:  # gRPC comes with it: see `load_handover`
    from shim.journal.handover import Handover
    from shim.link import Link

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
    """Entries that neither the service nor its quarantine took, kept in `handed.db`."""


def load_handover() -> type[Handover]:
    """Load what a hand-over needs, gRPC among it, which nobody waits for as the shim starts.

    A shim that runs for long calls this early: by its first outage its files may be those of another version.
    """
    from shim.journal.handover import Handover

    return Handover


class Drainer:
    """Merges all files of the folder, and hands them over. Another drainer of the folder waits until it is gone.

    What was kept aside is offered once more when it starts, after all that waits: the service may be a newer one.
    """

    def __init__(self, folder: Path, marks: Marks, open_link: Callable[[], Link], *, metrics: JournalMetrics) -> None:
        """Set the marks by what the files hold, before anything new is accepted.

        `open_link` is called when there is something to hand over, and not by a host whose journal is empty.
        Raises `StartError` when the folder can't be written.
        """
        self._marks = marks
        self._metrics = metrics
        self._folder = folder
        self._lock: Lock | None = None
        self._progress: Progress | None = None
        self._sources: Sources | None = None
        self._open_link = open_link
        self._offers: deque[str] = deque()
        """What was kept aside before, and is still to be offered again."""
        self._last_kept_aside: Parcel | None = None
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
        metrics.oldest_seconds.set_function(lambda: max(0.0, time.time() - self._oldest_at) if self._oldest_at else 0)
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

    @cached_property
    def _handover(self) -> Handover:
        return load_handover()(self._open_link(), self._keep_aside, self._metrics)

    async def run(self) -> NoReturn:
        """Hand over for ever. When cancelled, everything is closed."""
        try:
            await self._wait_for_turn()
            scan_at = 0.0
            while True:
                now = asyncio.get_running_loop().time()
                if not self._marks.is_empty():
                    await self._survive(self._hand_over_next)
                    continue
                self._note_empty()
                if self._offers:
                    await self._survive(self._offer_next)
                    continue
                if now >= scan_at:
                    scan_at = now + _SCAN_SECONDS
                    await self._survive(self._look)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.close()

    async def hand_over_all(self) -> JournalState:
        """Hand over until nothing waits; then everything is closed. Returns how the journal is in the end."""
        try:
            await self._wait_for_turn()
            while not await self._survive(self._look):
                pass
            while self._offers or not self._marks.is_empty():
                await self._survive(self._offer_next if self._marks.is_empty() else self._hand_over_next)
            await self._survive(self._look)  # what is empty is deleted
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
        self._offers = deque(self._progress.list_aside())
        self._kept_aside = len(self._offers)
        self._sources = Sources(self._folder, self._marks, self._progress)
        self._sources.rebuild_marks()

    async def _wait_for_turn(self) -> None:
        if not self._is_alone:
            _log.warning("journal_in_use", extra={"action": "another process hands it over: wait, or stop that one"})
        while not self._is_alone:
            await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
            await self._survive(self._take_over)

    async def _take_over(self) -> None:
        if self._lock and self._lock.is_taken():
            await self._do(self._open)
            self._is_alone = True
            _log.info("journal_taken_over")

    async def _survive(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Do something that may be done again. When it fails, say so, pause, and return False."""
        try:
            await step()
        except (ServiceUnavailableError, StartError, apsw.Error, OSError) as error:
            await self._fail(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - nothing may end the hand-over but the end of the process
            await self._fail(type(error).__name__, error)
            return False
        self._failures = 0
        self._failure = None
        return True

    async def _hand_over_next(self) -> None:
        # While the service is away, one entry is probe enough.
        limit = 1 if self._failures and not self._handover.wants_others else _MAX_ENTRIES
        entries = await self._do(lambda: self._read(limit))
        self._note(entries)
        if not entries:
            await asyncio.sleep(_LOOK_SECONDS)
            return
        await self._handover.hand_over([waiting.parcel for waiting in entries])
        await self._do(lambda: self._settle(entries))

    async def _offer_next(self) -> None:
        """Offer the next of what was kept aside before; what is refused again stays."""
        progress = self._progress
        if progress is None:
            return
        parcel = await self._do(lambda: progress.load_aside(self._offers[0]))
        await self._handover.hand_over([parcel])
        self._offers.popleft()
        if self._last_kept_aside is not parcel:
            await self._do(lambda: progress.drop_aside(parcel))
            self._kept_aside -= 1

    async def _fail(self, reason: str, error: Exception | None = None) -> None:
        if self._failure != reason:
            # Once for each time that it goes wrong in another way, not at every try meanwhile.
            facts = {"reason": reason, "messages": self._marks.entries_waiting()}
            _log.log(logging.ERROR if error else logging.WARNING, "hand_over_failed", extra=facts, exc_info=error)
        self._failure = reason
        pause = min(_LONGEST_PAUSE_SECONDS, _SHORTEST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads the hosts

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

    async def _look(self) -> None:
        await self._do(self._scan)

    def _scan(self) -> None:
        if self._sources:
            self._sources.scan()

    def _read(self, limit: int) -> Sequence[Waiting]:
        return self._sources.read(limit=limit, max_bytes=_MAX_BYTES) if self._sources else []

    def _settle(self, entries: Sequence[Waiting]) -> None:
        if self._sources:
            self._sources.settle(entries)

    def _keep_aside(self, parcel: Parcel, reason: str) -> None:
        if self._progress:
            self._progress.keep_aside(parcel, reason)
            self._kept_aside = self._progress.count_aside()
            self._last_kept_aside = parcel

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
