"""How much waits: counted for everybody who asks, and now and then where it is much.

To count is to look at each conversation that something waits of. No store keeps the sums ready: those that messages
come in with would wait for each other at them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from service.errors import GatewayError, StoreUnavailable
from service.models import DestinationSettings, DestinationStatus

MOST_FOR_EVERYBODY = 100_000
"""So many conversations and dead letters are counted in some 50 ms."""

KEPT_SECONDS = 5.0
KEPT_TIMES = 20
"""How long a large count is kept: the longer, the longer it took. So it takes a twentieth of the time at the most."""

PATIENCE_SECONDS = 1.2
"""How long who asks waits for a count; it goes on. Within the 1.5 s of design 6.8."""


class Counted(NamedTuple):
    """What was found to wait in a destination."""

    conversations: int = 0
    backlog: int = 0
    leased: int = 0
    oldest_committed_at: int | None = None
    dead_letters: int = 0


class Count(NamedTuple):
    """What waited at a moment, by destination; where nothing did, there may be none."""

    at: int
    waiting: Mapping[str, Counted]

    @property
    def is_large(self) -> bool:
        """Whether it takes too long for everybody who asks."""
        return sum(each.conversations + each.dead_letters for each in self.waiting.values()) > MOST_FOR_EVERYBODY


class Counting:
    """Counts by `count`, one at a time, and keeps the last count."""

    def __init__(self, count: Callable[[], Awaitable[Count]]) -> None:
        self._count = count
        self._last: Count | None = None
        self._fresh_until = 0.0
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Count] | None = None
        """Who joins it gets a count that has not begun yet."""
        self._tasks: set[asyncio.Task[Count]] = set()

    async def latest(self) -> Count:
        """Return a count that begins from now on; or where much waits, the last one, which is made anew when it is old.

        At most one runs and one more is to begin, however many ask and whether or not they stay. Raises
        `StoreUnavailable` when it takes long and there is no large one to fall back on: what runs goes on, and is
        kept for who asks next where much waits.
        """
        if kept := self._find_fresh():
            return kept
        task = self._next or self._plan()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        if task.done() and not task.cancelled():
            return task.result()
        if self._last is None or not self._last.is_large:
            raise StoreUnavailable("what waits is still being counted; retry in a moment")
        return self._last

    async def close(self) -> None:
        """Count no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _find_fresh(self) -> Count | None:
        return self._last if time.monotonic() < self._fresh_until else None

    def _plan(self) -> asyncio.Task[Count]:
        self._next = task = asyncio.create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    async def _work(self) -> Count:
        async with self._turn:
            self._next = None
            # What the one before it has found may be too much to be counted again at once.
            return self._find_fresh() or await self._count_anew()

    async def _count_anew(self) -> Count:
        started = time.monotonic()
        self._last = count = await self._count()
        took = time.monotonic() - started
        self._fresh_until = started + max(KEPT_SECONDS, KEPT_TIMES * took) if count.is_large else 0.0
        return count

    def _end(self, task: asyncio.Task[Count]) -> None:
        self._tasks.discard(task)
        # Perhaps nobody has waited for it.
        with suppress(asyncio.CancelledError, GatewayError):
            task.result()


def describe(settings: Mapping[str, DestinationSettings], count: Count) -> Sequence[DestinationStatus]:
    """Return every destination that has settings or that something waits in, by name."""
    return [
        DestinationStatus(
            name,
            waiting.backlog,
            waiting.leased,
            waiting.oldest_committed_at,
            waiting.dead_letters,
            settings.get(name, DestinationSettings()),
            count.at,
        )
        for name in sorted(settings.keys() | count.waiting.keys())
        for waiting in (count.waiting.get(name, Counted()),)
    ]
