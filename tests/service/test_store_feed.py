"""The contract of a store: deliveries are leased one at a time a conversation, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from service.models import (
    AckStatus,
    AckToken,
    Claimed,
    ClaimedDelivery,
    DestinationSettings,
    Settlement,
    SettlementKind,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_channel, a_message

MUCH = 10**9


async def claim(store: Store, *, limit: int = 100, max_bytes: int = MUCH, lease_seconds: float = 60) -> Claimed:
    return await store.claim("default", limit=limit, max_bytes=max_bytes, lease_seconds=lease_seconds)


async def claim_one(store: Store) -> ClaimedDelivery:
    (delivery,) = (await claim(store, limit=1)).deliveries
    return delivery


async def settle(store: Store, token: AckToken, kind: SettlementKind, seconds: float = 0) -> AckStatus:
    (status,) = await store.settle("default", [Settlement(token, kind, seconds)])
    return status


async def ack(store: Store, delivery: ClaimedDelivery) -> AckStatus:
    return await settle(store, delivery.token, SettlementKind.ACK)


async def test_a_conversation_comes_one_at_a_time_in_order(store: Store) -> None:
    await store.record([a_message(f"SM{number}", payload=b"%d" % number) for number in range(5)])

    seen = []
    for _ in range(5):
        (delivery,) = (await claim(store)).deliveries
        seen.append(delivery.payload)
        assert await ack(store, delivery) is AckStatus.OK

    assert seen == [b"0", b"1", b"2", b"3", b"4"]
    assert not (await claim(store)).deliveries


async def test_conversations_do_not_wait_for_each_other(store: Store) -> None:
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number % 3}") for number in range(9)])

    claimed = await claim(store)

    assert len(claimed.deliveries) == 3
    assert [delivery.sequence for delivery in claimed.deliveries] == [1, 2, 3]


async def test_a_destination_sees_nothing_of_another(store: Store) -> None:
    await store.record([a_message("SM1", destinations=("bot",)), a_message("SM2", destinations=("bot", "default"))])

    assert [delivery.sequence for delivery in (await claim(store)).deliveries] == [2]


async def test_a_leased_delivery_is_not_claimed_again_before_its_deadline(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    first = await claim_one(store)
    clock.advance(59.999)

    claimed = await claim(store)

    assert not claimed.deliveries
    assert claimed.next_due_at == first.deadline_at


async def test_after_its_deadline_it_is_claimed_again_as_the_next_attempt(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    first = await claim_one(store)
    clock.advance(61)

    again = await claim_one(store)

    assert (first.attempt, again.attempt) == (1, 2)
    assert again.token != first.token


async def test_an_acknowledgement_of_an_earlier_attempt_is_stale_and_changes_nothing(
    store: Store, clock: ManualClock
) -> None:
    await store.record([a_message("SM1")])
    first = await claim_one(store)
    clock.advance(61)
    again = await claim_one(store)

    assert await ack(store, first) is AckStatus.STALE
    assert await settle(store, first.token, SettlementKind.NACK) is AckStatus.STALE
    assert await settle(store, first.token, SettlementKind.EXTEND, 600) is AckStatus.STALE
    assert not (await claim(store)).deliveries
    assert await ack(store, again) is AckStatus.OK


async def test_a_late_acknowledgement_is_good_while_nobody_else_was_given_the_message(
    store: Store, clock: ManualClock
) -> None:
    await store.record([a_message("SM1")])
    delivery = await claim_one(store)
    clock.advance(3600)

    assert await ack(store, delivery) is AckStatus.OK
    assert not (await claim(store)).deliveries


async def test_a_repeated_acknowledgement_is_stale_and_does_not_touch_the_next_message(store: Store) -> None:
    await store.record([a_message("SM1"), a_message("SM2")])
    first = await claim_one(store)

    statuses = await store.settle("default", [Settlement(first.token, SettlementKind.ACK)] * 2)

    assert statuses == [AckStatus.OK, AckStatus.STALE]
    assert (await claim_one(store)).sequence == 2


@pytest.mark.parametrize("token", [AckToken(99, 1), AckToken(1, 2**62), AckToken(1, 0)])
async def test_a_token_that_was_never_given_out_is_unknown(store: Store, token: AckToken) -> None:
    await store.record([a_message("SM1")])
    await claim_one(store)

    assert await settle(store, token, SettlementKind.ACK) is AckStatus.UNKNOWN


async def test_a_token_of_another_destination_is_unknown(store: Store) -> None:
    await store.record([a_message("SM1", destinations=("bot", "default"))])
    delivery = await claim_one(store)

    assert await store.settle("bot", [Settlement(delivery.token, SettlementKind.ACK)]) == [AckStatus.UNKNOWN]


async def test_a_delivery_that_is_given_back_comes_after_its_delay(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    delivery = await claim_one(store)
    assert await settle(store, delivery.token, SettlementKind.NACK, 30) is AckStatus.OK

    assert (await claim(store)).next_due_at == clock.now + 30_000_000
    clock.advance(30)

    assert (await claim_one(store)).attempt == 2


async def test_an_extended_lease_ends_later(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    delivery = await claim_one(store)
    clock.advance(50)
    assert await settle(store, delivery.token, SettlementKind.EXTEND, 60) is AckStatus.OK
    clock.advance(59)

    assert not (await claim(store)).deliveries
    assert await ack(store, delivery) is AckStatus.OK


async def test_a_claim_stops_at_its_bytes_but_never_before_the_first(store: Store) -> None:
    await store.record(
        [a_message(f"SM{number}", sender=f"whatsapp:+{number}", payload=b"x" * 100) for number in range(5)]
    )

    assert len((await claim(store, max_bytes=250)).deliveries) == 2
    assert len((await claim(store, max_bytes=1)).deliveries) == 1
    assert len((await claim(store)).deliveries) == 2


async def test_who_has_been_ready_longest_comes_first(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1", sender="whatsapp:+1"), a_message("SM2", sender="whatsapp:+1")])
    first = await claim_one(store)
    clock.advance(1)
    await store.record([a_message("SM3", sender="whatsapp:+3")])
    clock.advance(1)
    await ack(store, first)

    assert [delivery.sequence for delivery in (await claim(store)).deliveries] == [3, 2]


async def test_attempts_count_anew_for_the_next_message(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1"), a_message("SM2")])
    await claim_one(store)
    clock.advance(61)
    await ack(store, await claim_one(store))

    assert (await claim_one(store)).attempt == 1


async def test_destinations_tell_what_waits_in_them(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(destination="idle"))
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number % 2}") for number in range(5)])
    first_at = clock.now
    await claim_one(store)
    clock.advance(5)

    assert [tuple(status) for status in await store.list_destinations()] == [
        ("default", 5, 1, first_at, 0, DestinationSettings(), clock.now),
        ("idle", 0, 0, None, 0, DestinationSettings(), clock.now),
    ]


async def test_a_listener_hears_of_what_may_be_claimed(store: Store) -> None:
    heard: list[str] = []

    class Listener:
        def on_ready(self, destinations: Collection[str]) -> None:
            heard.extend(destinations)

        def on_arrivals(self, counts: Mapping[str, int]) -> None:
            heard.extend(f"{name} +{count}" for name, count in counts.items())

        def on_dead_letters(self, counts: Mapping[str, int]) -> None:
            heard.extend(f"{name} dead {count}" for name, count in counts.items())

        def on_directory_change(self) -> None:
            heard.append("directory")

    store.listen(Listener())
    await store.record([a_message("SM1", destinations=("bot",))])
    await store.create_channel(a_channel())

    assert heard == ["bot", "bot +1", "directory"]


async def test_many_consumers_at_once_never_hold_the_same_conversation(store: Store) -> None:
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number % 20}") for number in range(400)])
    held: set[int] = set()
    done: list[int] = []

    async def consume() -> None:
        while len(done) < 400:
            claimed = await claim(store, limit=3)
            lanes = {delivery.token.lane for delivery in claimed.deliveries}
            assert not lanes & held
            held.update(lanes)
            await asyncio.sleep(0)
            held.difference_update(lanes)
            for delivery in claimed.deliveries:
                assert await ack(store, delivery) is AckStatus.OK
                done.append(delivery.sequence)

    await asyncio.gather(*(consume() for _ in range(8)))

    assert sorted(done) == list(range(1, 401))
