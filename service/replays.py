"""Replays: keeps those that are under way going, each at its rate."""

from __future__ import annotations

import asyncio
import logging

from service.errors import Stopping, StoreUnavailable
from service.signals import Signal
from service.store.contract import Clock, ReplayStore

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
LONGEST_SLEEP_SECONDS = 3600.0
LONGEST_SLEEP_WHEN_SHARED_SECONDS = 1.0
"""A replay that another process has started is seen after that long."""


class ReplayRunner:
    """Queues the next parts of replays whenever they are due. `started` is fired when one was started."""

    def __init__(self, store: ReplayStore, started: Signal, clock: Clock, *, is_shared: bool) -> None:
        self._store = store
        self._started = started
        self._clock = clock
        self._longest_sleep_seconds = LONGEST_SLEEP_WHEN_SHARED_SECONDS if is_shared else LONGEST_SLEEP_SECONDS

    async def run(self) -> None:
        """Go on until `started` is closed. What a restart interrupts goes on with the next run."""
        try:
            while True:
                seen = self._started.count
                try:
                    next_due_at = await self._store.advance_replays()
                except StoreUnavailable as error:
                    log.warning("replays_waiting", extra={"reason": str(error)})
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._started.wait_past(seen, self._sleep_seconds(next_due_at))
        except Stopping:
            return

    def _sleep_seconds(self, next_due_at: int | None) -> float:
        if next_due_at is None:
            return self._longest_sleep_seconds
        return min(max(next_due_at - self._clock(), 0) / 1e6, self._longest_sleep_seconds)
