"""The feed: consumers on one side, the store's lanes on the other, a dispatcher a destination between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from service.errors import InvalidRequest, Stopping, StoreUnavailable
from service.feed.consumer import Consumer
from service.feed.dispatcher import Dispatcher
from service.feed.rates import RateMeter
from service.models import (
    AckStatus,
    AckToken,
    ClaimedDelivery,
    DestinationStatus,
    Settlement,
    SettlementKind,
)
from service.store.contract import Clock, FeedStore

MOST_BYTES_IN_A_PULL = 2 * 1024 * 1024


class SettlementRequest(NamedTuple):
    """What a consumer says of an ack id, which may be none of ours."""

    ack_id: str
    kind: SettlementKind
    seconds: float | None = None


class DestinationInUse(NamedTuple):
    """A destination as this process sees it; rates are messages a second over the last minute."""

    status: DestinationStatus
    consumers: int
    in_rate: float
    out_rate: float


class MessageFeed:
    """Hands deliveries out and settles them. `close` ends every subscription."""

    def __init__(self, store: FeedStore, clock: Clock, *, is_shared: bool) -> None:
        self._store = store
        self._clock = clock
        self._is_shared = is_shared
        self._dispatchers: dict[str, Dispatcher] = {}
        self._is_closed = False
        self._arrivals = RateMeter(clock)
        self._acknowledged = RateMeter(clock)

    def on_ready(self, destinations: Collection[str]) -> None:
        """Wake those who serve these destinations."""
        for destination in destinations:
            dispatcher = self._dispatchers.get(destination)
            if dispatcher:
                dispatcher.wake()

    def on_arrivals(self, counts: Mapping[str, int]) -> None:
        """Count what came in."""
        for destination, count in counts.items():
            self._arrivals.count(destination, count)

    @asynccontextmanager
    async def subscribe(
        self, destination: str, *, messages: int, size: int, lease_seconds: float | None
    ) -> AsyncIterator[Consumer]:
        """Serve a consumer as long as the context lasts; what it has then and hasn't settled goes back.

        That counts for nothing when the context is left in order, for an error of ours, or because we stop. When it
        is cancelled, or the consumer asked for something impossible, it is a failed attempt. Raises
        `errors.Stopping` when the service stops.
        """
        dispatcher, consumer = self._join(destination, messages, size, lease_seconds)
        taken = SettlementKind.RETURN
        try:
            yield consumer
        except (asyncio.CancelledError, GeneratorExit, InvalidRequest):
            taken = SettlementKind.RETURN if self._is_closed else SettlementKind.BREAK
            raise
        finally:
            await asyncio.shield(self._part(destination, dispatcher, consumer, taken))

    def _join(
        self, destination: str, messages: int, size: int, lease_seconds: float | None
    ) -> tuple[Dispatcher, Consumer]:
        if self._is_closed:
            raise Stopping("the service stops; call again")
        dispatcher = self._dispatchers.get(destination)
        if dispatcher is None or dispatcher.is_over:
            dispatcher = Dispatcher(destination, self._store, self._clock, is_shared=self._is_shared)
            self._dispatchers[destination] = dispatcher
        consumer = Consumer(messages=messages, size=size, lease_seconds=lease_seconds, on_room=dispatcher.wake)
        dispatcher.join(consumer)
        return dispatcher, consumer

    async def _part(
        self, destination: str, dispatcher: Dispatcher, consumer: Consumer, taken: SettlementKind | None
    ) -> None:
        await dispatcher.leave(consumer, taken)
        if dispatcher.consumers:
            return
        if self._dispatchers.get(destination) is dispatcher:
            del self._dispatchers[destination]
        await dispatcher.finish()

    async def pull(
        self, destination: str, *, limit: int, wait_seconds: float, lease_seconds: float | None
    ) -> Sequence[ClaimedDelivery]:
        """Return what is there, else what comes within `wait_seconds`. It stays leased until settled or expired."""
        deliveries = await self._claim(destination, limit, lease_seconds)
        if deliveries or not wait_seconds:
            return deliveries
        dispatcher, consumer = self._join(destination, limit, MOST_BYTES_IN_A_PULL, lease_seconds)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(consumer.wait(), wait_seconds)
            return consumer.take(MOST_BYTES_IN_A_PULL)
        finally:
            await asyncio.shield(self._part(destination, dispatcher, consumer, None))

    async def _claim(self, destination: str, limit: int, lease_seconds: float | None) -> Sequence[ClaimedDelivery]:
        claiming = asyncio.create_task(
            self._store.claim(destination, limit=limit, max_bytes=MOST_BYTES_IN_A_PULL, lease_seconds=lease_seconds)
        )
        try:
            return (await asyncio.shield(claiming)).deliveries
        except asyncio.CancelledError:  # nobody is there to take them
            with suppress(StoreUnavailable):
                returned = [Settlement(each.token, SettlementKind.RETURN) for each in (await claiming).deliveries]
                await self._store.settle(destination, returned)
            raise

    async def settle(self, destination: str, requests: Sequence[SettlementRequest]) -> Sequence[tuple[str, AckStatus]]:
        """Settle deliveries; one status an ack id, in order. What is no ack id of ours is UNKNOWN."""
        tokens = [AckToken.parse(request.ack_id) for request in requests]
        settlements = [
            Settlement(token, request.kind, request.seconds)
            for token, request in zip(tokens, requests, strict=True)
            if token is not None
        ]
        statuses = await self._store.settle(destination, settlements) if settlements else ()
        if destination in self._dispatchers:
            self._dispatchers[destination].note(settlements, statuses)
        done = sum(
            status is AckStatus.OK and settlement.kind is SettlementKind.ACK
            for settlement, status in zip(settlements, statuses, strict=True)
        )
        self._acknowledged.count(destination, done)
        known = iter(statuses)
        return [
            (request.ack_id, AckStatus.UNKNOWN if token is None else next(known))
            for token, request in zip(tokens, requests, strict=True)
        ]

    async def list_destinations(self) -> Sequence[DestinationInUse]:
        """Return every destination, and how it is used through this process."""
        return [
            DestinationInUse(
                status,
                len(self._dispatchers[status.name].consumers) if status.name in self._dispatchers else 0,
                self._arrivals.per_second(status.name),
                self._acknowledged.per_second(status.name),
            )
            for status in await self._store.list_destinations()
        ]

    def close(self) -> None:
        """Let no one join any more, and every consumer stop."""
        self._is_closed = True
        for dispatcher in self._dispatchers.values():
            for consumer in dispatcher.consumers:
                consumer.stop()
