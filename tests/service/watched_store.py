"""A store whose claims are counted, with a feed that listens to it; and what tests do with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from service.feed import MessageFeed
from service.models import AckStatus, Claimed, ClaimedDelivery, Settlement
from service.store.contract import Store
from tests.service.builders import a_message

CREDIT = 10**6


class WatchedStore:
    """A store whose claims are counted, and which can be made to answer late."""

    def __init__(self, store: Store) -> None:
        self.unwatched = store
        self.claims: Counter[str] = Counter()
        self.answers = asyncio.Event()
        self.answers.set()
        self.has_claimed = asyncio.Event()
        self.has_settled = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unwatched, name)

    async def claim(self, destination: str, **values: Any) -> Claimed:
        self.claims[destination] += 1
        claimed = await self.unwatched.claim(destination, **values)
        self.has_claimed.set()
        await self.answers.wait()
        return claimed

    async def settle(self, destination: str, settlements: Sequence[Settlement]) -> Sequence[AckStatus]:
        statuses = await self.unwatched.settle(destination, settlements)
        self.has_settled.set()
        await self.answers.wait()
        return statuses


class Listener:
    """Passes on what the feed is to hear of."""

    def __init__(self, feed: MessageFeed) -> None:
        self._feed = feed

    def on_ready(self, destinations: Collection[str]) -> None:
        self._feed.on_ready(destinations)

    def on_arrivals(self, counts: Mapping[str, int]) -> None:
        self._feed.on_arrivals(counts)

    def on_dead_letters(self, counts: Mapping[str, int]) -> None:
        pass

    def on_directory_change(self) -> None:
        pass


async def write(store: WatchedStore, *sids: str, destination: str = "default", payload: bytes = b"payload") -> None:
    """Store messages, each of a conversation of its own."""
    await store.record([a_message(sid, sender=sid, destinations=(destination,), payload=payload) for sid in sids])


async def rest(store: WatchedStore) -> list[ClaimedDelivery]:
    """Return what is there for others now."""
    claimed = await store.unwatched.claim("default", limit=1000, max_bytes=CREDIT, lease_seconds=60)
    return list(claimed.deliveries)


async def settle_down(store: WatchedStore) -> None:
    """Return when everything that could happen now has happened: the writer's queue was empty often enough."""
    for _ in range(20):
        await store.check_alive()
