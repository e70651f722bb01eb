"""Tells many waiters on one event loop that something has happened."""

from __future__ import annotations

import asyncio

from service.errors import Stopping


class Signal:
    """Counts what happens. A waiter says how much it has seen, so that nothing slips between a look and a wait."""

    def __init__(self) -> None:
        self.count = 0
        self._is_closed = False
        self._next: asyncio.Event = asyncio.Event()

    def fire(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()

    def close(self) -> None:
        """Make every wait, those under way too, raise `errors.Stopping`."""
        self._is_closed = True
        self.fire()

    async def wait_past(self, seen: int, timeout_seconds: float) -> bool:
        """Return True once the count is past `seen`, False when the time is up first."""
        if self.count <= seen and not self._is_closed:
            try:
                await asyncio.wait_for(self._next.wait(), timeout_seconds)
            except TimeoutError:
                return False
        if self._is_closed:
            raise Stopping("the service stops; call again")
        return True
