"""What a consumer does with a store, in one step each."""

from __future__ import annotations

from service.models import ClaimedDelivery, Settlement, SettlementKind
from service.store.contract import Store


async def take(store: Store, destination: str = "default", *, limit: int = 100) -> list[ClaimedDelivery]:
    """Claim what is ready."""
    return list((await store.claim(destination, limit=limit, max_bytes=10**7, lease_seconds=60)).deliveries)


async def settle(
    store: Store, kind: SettlementKind, *deliveries: ClaimedDelivery, destination: str = "default"
) -> None:
    """Settle deliveries, all of which must be good."""
    statuses = await store.settle(destination, [Settlement(delivery.token, kind) for delivery in deliveries])
    assert {status.value for status in statuses} <= {"ok"}


async def deliver_all(store: Store, destination: str = "default") -> list[ClaimedDelivery]:
    """Take and acknowledge until nothing is ready; return what came, in order."""
    seen: list[ClaimedDelivery] = []
    while deliveries := await take(store, destination):
        seen += deliveries
        await settle(store, SettlementKind.ACK, *deliveries, destination=destination)
    return seen
