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
    """Counts by `count`, and keeps the last count."""

    def __init__(self, count: Callable[[], Awaitable[Count]]) -> None:
        self._count = count
        self._last: Count | None = None
        self._fresh_until = 0.0
        self._is_slow = False
        self._running: set[asyncio.Task[Count]] = set()

    async def latest(self) -> Count:
        """Return a count that begins now; or where much waits, the last one, which is made anew when it is old.

        Raises `StoreUnavailable` when there is none yet to fall back on: it goes on, for who asks next.
        """
        if self._last is not None and time.monotonic() < self._fresh_until:
            return self._last
        # Who joins a count gets one that began before: so that is for large ones.
        task = next(iter(self._running), None) if self._is_slow else None
        if task is None:
            task = self._begin()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        if task.done() and not task.cancelled():
            return task.result()
        self._is_slow = True
        if self._last is None or not self._last.is_large:
            raise StoreUnavailable("what waits is still being counted; retry in a moment")
        return self._last

    async def close(self) -> None:
        """Count no more."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self) -> asyncio.Task[Count]:
        task = asyncio.create_task(self._work())
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    async def _work(self) -> Count:
        started = time.monotonic()
        self._last = count = await self._count()
        self._is_slow = count.is_large
        took = time.monotonic() - started
        self._fresh_until = started + max(KEPT_SECONDS, KEPT_TIMES * took) if count.is_large else 0.0
        return count

    def _end(self, task: asyncio.Task[Count]) -> None:
        self._running.discard(task)
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
