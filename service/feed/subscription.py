"""One stream of a consumer: deliveries out, settlements in, each answered.

Settles everything that has come in since the last commit at once, so that
single acks cost a commit together and not each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from service.feed import MessageFeed, SettlementRequest
from service.feed.consumer import Consumer
from service.models import AckStatus, ClaimedDelivery

MOST_PENDING = 10_000
MOST_SETTLED_AT_ONCE = 1000
MOST_BYTES_IN_A_RESPONSE = 1024 * 1024


class Outgoing(NamedTuple):
    """What goes out together."""

    deliveries: Sequence[ClaimedDelivery]
    results: Sequence[tuple[str, AckStatus]]


class Subscription:
    """Joins a consumer's two directions. `settle_all` runs beside `receive` until cancelled."""

    def __init__(self, feed: MessageFeed, destination: str, consumer: Consumer) -> None:
        self._feed = feed
        self._destination = destination
        self._consumer = consumer
        self._pending: list[SettlementRequest] = []
        self._results: list[tuple[str, AckStatus]] = []
        self._has_pending = asyncio.Event()
        self._has_room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def submit(self, requests: Sequence[SettlementRequest]) -> None:
        """Queue settlements; waits while too many are queued, so that the stream is read no faster."""
        while len(self._pending) >= MOST_PENDING:
            self._has_room.clear()
            await self._has_room.wait()
        self._pending += requests
        if self._pending:
            self._idle.clear()
            self._has_pending.set()

    async def settle_all(self) -> None:
        """Settle what is queued, again and again. Raises `errors.StoreUnavailable`."""
        while True:
            await self._has_pending.wait()
            batch, self._pending = self._pending[:MOST_SETTLED_AT_ONCE], self._pending[MOST_SETTLED_AT_ONCE:]
            results = await self._feed.settle(self._destination, batch)
            self._results += results  # not in one: `+=` would read the list before the wait, and send it again after
            self._has_room.set()
            self._consumer.notify()
            if not self._pending:
                self._has_pending.clear()
                self._idle.set()

    async def settled(self) -> None:
        """Return when nothing is queued."""
        await self._idle.wait()

    async def receive(self) -> Outgoing:
        """Wait for something to send, and return it. Raises `errors.Stopping`."""
        while True:
            outgoing = Outgoing(self._consumer.take(MOST_BYTES_IN_A_RESPONSE), self.take_results())
            if outgoing.deliveries or outgoing.results:
                return outgoing
            await self._consumer.wait()

    def take_results(self) -> Sequence[tuple[str, AckStatus]]:
        """Return what became of settlements since the last time."""
        results, self._results = self._results, []
        return results
