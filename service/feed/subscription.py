"""One stream of a consumer: deliveries out, settlements in, each answered.

Settles everything that has come in since the last commit at once, so that
single acks cost a commit together and not each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple

from service.errors import Stopping
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
    """Joins a consumer's two directions. `run` it once."""

    def __init__(self, feed: MessageFeed, destination: str, consumer: Consumer) -> None:
        self._feed = feed
        self._destination = destination
        self._consumer = consumer
        self._pending: deque[SettlementRequest] = deque()
        self._results: list[tuple[str, AckStatus]] = []
        self._is_ending = False
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()

    async def run(self, requests: AsyncIterator[Sequence[SettlementRequest]]) -> AsyncGenerator[Outgoing, None]:
        """Yield what goes out, until the requests end, the service stops, or something fails.

        Whatever ends it, what was asked for until then is settled, and answered if the stream still is. Then raises
        what ended it: `errors.Stopping`, `errors.StoreUnavailable`, or what `requests` raises.
        """
        reading = asyncio.create_task(self._read(requests))
        settling = asyncio.create_task(self._settle())
        for task in (reading, settling):
            task.add_done_callback(lambda _: self._consumer.notify())
        stopping: Stopping | None = None
        try:
            while not (reading.done() or settling.done()):
                outgoing = Outgoing(self._consumer.take(MOST_BYTES_IN_A_RESPONSE), self._take_results())
                if outgoing.deliveries or outgoing.results:
                    yield outgoing
                else:
                    await self._consumer.wait()
        except Stopping as error:
            stopping = error
        finally:
            await asyncio.shield(self._end(reading, settling))
        # A stream that breaks looks at first like one whose requests end. Who has something must be there to take this.
        if (results := self._take_results()) or self._consumer.outstanding:
            yield Outgoing((), results)
        settling.result()
        if stopping:
            raise stopping
        reading.result()

    async def _end(self, reading: asyncio.Task[None], settling: asyncio.Task[None]) -> None:
        reading.cancel()
        self._is_ending = True
        self._has_news.set()
        await asyncio.gather(reading, settling, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[Sequence[SettlementRequest]]) -> None:
        """Queue what is asked for; read no faster than it is settled and the answers are taken."""
        async for request in requests:
            self._pending += request
            self._has_news.set()
            while len(self._pending) + len(self._results) >= MOST_PENDING:
                self._has_room.clear()
                await self._has_room.wait()

    async def _settle(self) -> None:
        """Settle what is queued, again and again. Raises `errors.StoreUnavailable`."""
        while self._pending or not self._is_ending:
            self._has_news.clear()
            batch = [self._pending.popleft() for _ in range(min(len(self._pending), MOST_SETTLED_AT_ONCE))]
            if not batch:
                await self._has_news.wait()
                continue
            results = await self._feed.settle(self._destination, batch)
            self._results += results  # not in one: `+=` would read the list before the wait, and send it again after
            self._consumer.notify()

    def _take_results(self) -> Sequence[tuple[str, AckStatus]]:
        results, self._results = self._results, []
        self._has_room.set()
        return results
