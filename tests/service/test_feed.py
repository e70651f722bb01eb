"""The feed between its consumers and a store, without gRPC."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.feed import MessageFeed, SettlementRequest
from service.feed.consumer import Consumer
from service.feed.subscription import MOST_PENDING, Outgoing, Subscription
from service.models import ClaimedDelivery, SettlementKind
from service.store.contract import Store
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock
from tests.service.watched_store import CREDIT, Listener, WatchedStore, rest, settle_down, write


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """One store is enough: what is tested here is before it. This one does one thing after the other."""
    opened = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def watched(store: Store) -> WatchedStore:
    return WatchedStore(store)


@pytest.fixture
def feed(watched: WatchedStore, clock: ManualClock) -> MessageFeed:
    feed = MessageFeed(watched, clock, is_shared=False)
    watched.listen(Listener(feed))
    return feed


def subscribe(feed: MessageFeed, destination: str = "default", **values: Any) -> Any:
    return feed.subscribe(destination, **{"messages": 100, "size": CREDIT, "lease_seconds": 60, **values})


async def take(consumer: Consumer, count: int = 1) -> list[ClaimedDelivery]:
    found: list[ClaimedDelivery] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            await consumer.wait()
            found += consumer.take(CREDIT)
    return found


async def test_idle_consumers_ask_for_nothing(feed: MessageFeed, watched: WatchedStore) -> None:
    async with subscribe(feed, "a"), subscribe(feed, "a"), subscribe(feed, "b"):
        await settle_down(watched)
        before = watched.claims.copy()
        await settle_down(watched)

        assert watched.claims == before


async def test_a_message_wakes_only_those_whose_destination_it_is(feed: MessageFeed, watched: WatchedStore) -> None:
    async with subscribe(feed, "a") as consumer, subscribe(feed, "b"):
        await settle_down(watched)
        before = watched.claims.copy()
        await write(watched, "SM1", destination="a")
        await take(consumer)
        await settle_down(watched)

        assert watched.claims - before == Counter(a=1)


async def test_who_has_no_room_asks_for_nothing(feed: MessageFeed, watched: WatchedStore) -> None:
    async with subscribe(feed, messages=1) as consumer:
        await write(watched, "SM1")
        await take(consumer)
        await settle_down(watched)
        before = watched.claims.copy()
        await write(watched, "SM2")
        await settle_down(watched)

        assert watched.claims == before


async def test_bytes_of_what_is_settled_are_room_again(feed: MessageFeed, watched: WatchedStore) -> None:
    await write(watched, *(f"SM{number}" for number in range(10)), payload=b"x" * 100)
    async with subscribe(feed, size=250) as consumer:
        first = await take(consumer, 3)
        await settle_down(watched)
        assert consumer.room == 0
        assert len(await rest(watched)) == 7
        await write(watched, "SM10", "SM11", payload=b"x" * 100)
        await feed.settle("default", [SettlementRequest(str(first[0].token), SettlementKind.ACK)])

        assert len(await take(consumer, 1)) == 1
        await settle_down(watched)
        assert len(await rest(watched)) == 1


async def test_an_extended_lease_takes_up_room_until_its_new_end(
    feed: MessageFeed, watched: WatchedStore, clock: ManualClock
) -> None:
    await write(watched, "SM1")
    rooms = []
    async with subscribe(feed, messages=1) as consumer:
        (delivery,) = await take(consumer)
        await feed.settle("default", [SettlementRequest(str(delivery.token), SettlementKind.EXTEND, 600)])
        for seconds in (61, 600):
            clock.advance(seconds)
            feed.on_ready(["default"])
            await asyncio.sleep(0)  # it expires before it claims
            rooms.append(consumer.room)

    assert rooms == [0, 1]


async def test_consumers_are_served_in_turn_whatever_leases_they_ask_for(
    feed: MessageFeed, watched: WatchedStore
) -> None:
    async with subscribe(feed) as one, subscribe(feed) as two, subscribe(feed, lease_seconds=30) as three:
        served: Counter[str] = Counter()
        for number in range(30):
            await write(watched, f"SM{number}")
            await settle_down(watched)
            served.update({name: len(each.take(CREDIT)) for name, each in (("1", one), ("2", two), ("3", three))})

    assert served == {"1": 10, "2": 10, "3": 10}


async def test_who_takes_nothing_for_half_a_lease_gets_nothing_until_it_takes(
    feed: MessageFeed, watched: WatchedStore, clock: ManualClock
) -> None:
    await write(watched, "SM1")
    async with subscribe(feed) as consumer:
        await settle_down(watched)
        clock.advance(30)
        feed.on_ready(["default"])
        await settle_down(watched)
        (returned,) = await rest(watched)
        await write(watched, "SM2")
        await settle_down(watched)
        assert consumer.room == 0
        assert not consumer.take(CREDIT)
        (again,) = await take(consumer)

    assert (returned.attempt, again.attempt, again.sequence) == (1, 1, 2)


async def test_what_was_handed_when_the_service_stops_is_not_sent_any_more(
    feed: MessageFeed, watched: WatchedStore
) -> None:
    await write(watched, "SM1")
    async with subscribe(feed) as consumer:
        await settle_down(watched)
        feed.close()
        assert not consumer.take(CREDIT)
    (returned,) = await rest(watched)

    assert returned.attempt == 1


async def test_a_pull_whose_caller_goes_away_gives_back_what_it_claimed(
    feed: MessageFeed, watched: WatchedStore
) -> None:
    await write(watched, "SM1")
    watched.answers.clear()
    pulling = asyncio.create_task(feed.pull("default", limit=10, wait_seconds=0, lease_seconds=60))
    await watched.has_claimed.wait()
    pulling.cancel()
    await asyncio.sleep(0)  # it notices
    watched.answers.set()
    await asyncio.gather(pulling, return_exceptions=True)
    (returned,) = await rest(watched)

    assert pulling.cancelled()
    assert returned.attempt == 1


async def test_a_waiting_pull_whose_caller_goes_away_gives_back_what_it_was_handed(
    feed: MessageFeed, watched: WatchedStore
) -> None:
    pulling = asyncio.create_task(feed.pull("default", limit=10, wait_seconds=60, lease_seconds=60))
    await settle_down(watched)
    watched.answers.clear()
    watched.has_claimed.clear()
    await write(watched, "SM1")
    await watched.has_claimed.wait()
    pulling.cancel()
    watched.answers.set()
    await asyncio.gather(pulling, return_exceptions=True)
    (returned,) = await rest(watched)

    assert returned.attempt == 1


async def test_what_was_acknowledged_when_a_stream_broke_is_settled(feed: MessageFeed, watched: WatchedStore) -> None:
    await write(watched, "SM1", "SM2", "SM3")
    acks: list[SettlementRequest] = []
    has_read_all, has_taken = asyncio.Event(), asyncio.Event()

    async def requests() -> AsyncIterator[Sequence[SettlementRequest]]:
        await has_taken.wait()
        yield acks[:1]
        await watched.has_settled.wait()
        yield acks[1:2]
        has_read_all.set()
        await asyncio.Event().wait()

    async def consume() -> None:
        async with subscribe(feed) as consumer:
            async for outgoing in Subscription(feed, "default", consumer).run(requests()):
                acks.extend(SettlementRequest(str(each.token), SettlementKind.ACK) for each in outgoing.deliveries)
                watched.answers.clear()
                has_taken.set()

    consuming = asyncio.create_task(consume())
    await has_read_all.wait()
    consuming.cancel()
    await asyncio.sleep(0)  # it notices
    watched.answers.set()
    await asyncio.gather(consuming, return_exceptions=True)
    (status,) = await watched.list_destinations()

    assert (len(acks), status.backlog) == (3, 1)


async def test_a_stream_is_read_no_faster_than_its_answers_are(feed: MessageFeed) -> None:
    each, read = 1000, 0

    async def requests() -> AsyncIterator[Sequence[SettlementRequest]]:
        nonlocal read
        for _ in range(50):
            read += 1
            yield [SettlementRequest("nonsense", SettlementKind.ACK)] * each
            for _ in range(5):  # so that each is settled before the next one
                await asyncio.sleep(0)

    async with subscribe(feed) as consumer:
        answers = Subscription(feed, "default", consumer).run(requests())
        answered = await anext(answers)
        for _ in range(1000):
            await asyncio.sleep(0)
        unread = read * each - len(answered.results)
        await answers.aclose()

    assert unread == MOST_PENDING


async def test_a_stream_that_ends_answers_everything_first(feed: MessageFeed) -> None:
    async def requests() -> AsyncIterator[Sequence[SettlementRequest]]:
        for number in range(5):
            yield [SettlementRequest(f"nonsense {number}", SettlementKind.ACK)] * 2000

    answered: list[Outgoing] = []
    async with subscribe(feed) as consumer:
        async for outgoing in Subscription(feed, "default", consumer).run(requests()):
            answered.append(outgoing)  # noqa: PERF401 - as a caller does

    assert [ack_id for outgoing in answered for ack_id, _ in outgoing.results] == [
        f"nonsense {number}" for number in range(5) for _ in range(2000)
    ]
