"""A consumer of one destination: what it takes, and what the store says to what it settles."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.models import (
    AckStatus,
    ClaimedDelivery,
    DeadLetterSelection,
    DestinationSettings,
    Settlement,
    SettlementKind,
)
from service.store.contract import Store
from tests.service.builders import a_message

PLAIN = DestinationSettings(min_backoff_seconds=1.0, max_backoff_seconds=8.0, backoff_jitter=0.0, max_attempts=3)
"""Settings whose effect can be told in advance."""

IMPATIENT = replace(PLAIN, max_attempts=1)
EVERYTHING = DeadLetterSelection()


@dataclass(frozen=True)
class Consumer:
    """Leases are 60 s unless it asks for others."""

    store: Store
    destination: str = "default"

    async def take(self, *, limit: int = 100, lease_seconds: float | None = 60.0) -> list[ClaimedDelivery]:
        """Claim what is ready."""
        claimed = await self.store.claim(self.destination, limit=limit, max_bytes=10**9, lease_seconds=lease_seconds)
        return list(claimed.deliveries)

    async def take_one(self, *, lease_seconds: float | None = 60.0) -> ClaimedDelivery:
        """Claim exactly one."""
        (delivery,) = await self.take(limit=1, lease_seconds=lease_seconds)
        return delivery

    async def next_due_at(self) -> int | None:
        """Return when the next delivery could be claimed; there is none now."""
        claimed = await self.store.claim(self.destination, limit=100, max_bytes=10**9, lease_seconds=60.0)
        assert not claimed.deliveries
        return claimed.next_due_at

    async def settle(self, delivery: ClaimedDelivery, kind: SettlementKind, seconds: float | None = None) -> AckStatus:
        (status,) = await self.store.settle(self.destination, [Settlement(delivery.token, kind, seconds)])
        return status

    async def ack(self, delivery: ClaimedDelivery) -> AckStatus:
        return await self.settle(delivery, SettlementKind.ACK)

    async def nack(self, delivery: ClaimedDelivery, seconds: float | None = None) -> AckStatus:
        return await self.settle(delivery, SettlementKind.NACK, seconds)

    async def take_all(self) -> list[int]:
        """Take and acknowledge until nothing is ready; return the sequences, in order."""
        seen: list[int] = []
        while deliveries := await self.take():
            for delivery in deliveries:
                assert await self.ack(delivery) is AckStatus.OK
            seen += [delivery.sequence for delivery in deliveries]
        return seen


async def configure(store: Store, settings: DestinationSettings = PLAIN, *, destination: str = "default") -> None:
    """Give a destination its settings."""
    await store.update_destination(destination, lambda _: settings)


async def give_up(store: Store, *sids: str, destination: str = "default", channel: str = "C1") -> list[int]:
    """Record messages and let each fail for good; return their sequences."""
    await configure(store, IMPATIENT, destination=destination)
    recorded = await store.record([a_message(sid, destinations=(destination,), channel=channel) for sid in sids])
    consumer = Consumer(store, destination)
    for _ in sids:
        await consumer.nack(await consumer.take_one())
    await configure(store, destination=destination)
    return [entry.sequence for entry in recorded]


async def dead(store: Store, which: DeadLetterSelection = EVERYTHING) -> list[int]:
    """Return the sequences of all dead letters, newest first."""
    return [letter.sequence for letter in await store.list_dead_letters(which, before=None, limit=1000)]
