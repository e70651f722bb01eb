"""The contract of a store: messages are stored once, with their decision and deliveries."""

from __future__ import annotations

import asyncio

import pytest

from service.models import (
    ClaimedDelivery,
    HoldReason,
    MessageFilter,
    MessageState,
    Settlement,
    SettlementKind,
    StoredMessage,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message

ALL = MessageFilter()


async def acknowledge_all(store: Store, destination: str = "default") -> None:
    claimed = await store.claim(destination, limit=1000, max_bytes=10**9, lease_seconds=60)
    await store.settle(destination, [Settlement(delivery.token, SettlementKind.ACK) for delivery in claimed.deliveries])


async def test_a_message_is_found_as_it_was_recorded(store: Store) -> None:
    (recorded,) = await store.record([a_message("SM1", payload=b"\x00\xff", route_id="vip", destinations=("a", "b"))])

    found = await store.find_message("C1", "SM1")

    assert found is not None
    assert (found.sequence, found.payload) == (recorded.sequence, b"\x00\xff")
    assert (found.decision.route_id, found.decision.destinations) == ("vip", ("a", "b"))
    assert found.state is MessageState.PENDING


async def test_a_repeat_is_a_duplicate_with_the_sequence_of_the_first(store: Store) -> None:
    (first,) = await store.record([a_message("SM1", payload=b"first")])

    (repeat,) = await store.record([a_message("SM1", payload=b"second")])

    assert repeat.is_duplicate
    assert repeat.sequence == first.sequence
    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert found.payload == b"first"


async def test_a_repeat_inside_one_intake_is_a_duplicate_too(store: Store) -> None:
    recorded = await store.record([a_message("SM1"), a_message("SM2"), a_message("SM1")])

    assert [entry.is_duplicate for entry in recorded] == [False, False, True]
    assert recorded[2].sequence == recorded[0].sequence


async def test_the_same_sid_in_another_channel_is_another_message(store: Store) -> None:
    recorded = await store.record([a_message("SM1"), a_message("SM1", channel="C2")])

    assert not any(entry.is_duplicate for entry in recorded)


async def test_of_many_repeats_at_once_one_is_stored_and_delivered(store: Store) -> None:
    results = await asyncio.gather(*(store.record([a_message("SM1")]) for _ in range(50)))

    assert sorted(entry.is_duplicate for (entry,) in results) == [False] + [True] * 49
    claimed = await store.claim("default", limit=10, max_bytes=10**6, lease_seconds=60)
    assert len(claimed.deliveries) == 1


async def test_what_came_in_at_once_is_counted_by_channel_and_by_whether_it_was_recovered(store: Store) -> None:
    await asyncio.gather(
        store.record([a_message("SM1"), a_message("SM2", channel="C2")]),
        store.record([a_message("SM1"), a_message("SM3")], is_recovered=True),
        store.record([a_message("SM4")]),
    )

    counted = (await store.load_summary(most_channels=10)).channels
    assert [(each.channel_config_id, each.messages) for each in counted] == [("C1", 3), ("C2", 1)]
    recovered = {each.channel_config_id: each.recovered for each in counted}
    assert recovered["C1"] in {1, 2}, "SM3, and SM1 if that came first"
    assert recovered["C2"] == 0


async def test_of_one_conversation_in_an_intake_each_message_has_a_place_of_its_own(store: Store) -> None:
    senders = ["a", "b", "a", "a", "b", "c"]
    await store.record([a_message(f"SM{number}", sender=sender) for number, sender in enumerate(senders)])

    order = [delivery.sequence for delivery in await deliver_in_turn(store)]

    for sender in "abc":
        of_sender = [number + 1 for number, each in enumerate(senders) if each == sender]
        assert [sequence for sequence in order if sequence in of_sender] == of_sender


async def deliver_in_turn(store: Store) -> list[ClaimedDelivery]:
    """Deliver and acknowledge everything."""
    found: list[ClaimedDelivery] = []
    while claimed := (await store.claim("default", limit=100, max_bytes=2**20, lease_seconds=60)).deliveries:
        found += claimed
        await store.settle("default", [Settlement(each.token, SettlementKind.ACK) for each in claimed])
    return found


async def test_sequences_grow_in_the_order_of_the_intake(store: Store) -> None:
    recorded = await store.record([a_message(f"SM{number}") for number in range(10)])

    sequences = [entry.sequence for entry in recorded]
    assert sequences == sorted(set(sequences))


async def test_a_message_is_delivered_when_every_destination_has_acknowledged(store: Store) -> None:
    await store.record([a_message("SM1", destinations=("a", "b"))])

    states = []
    for destination in ("a", "b"):
        await acknowledge_all(store, destination)
        found = await store.find_message("C1", "SM1")
        assert found is not None
        states.append(found.state)

    assert states == [MessageState.PENDING, MessageState.DELIVERED]


async def test_attempts_and_the_acknowledgement_are_in_the_life_of_a_message(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    await store.claim("default", limit=1, max_bytes=1, lease_seconds=10)
    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert [(status.attempts, status.settled_at) for status in found.deliveries] == [(1, None)]

    clock.advance(11)
    await acknowledge_all(store)

    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert [(status.attempts, status.settled_at) for status in found.deliveries] == [(2, clock.now)]


async def test_a_held_message_is_stored_and_goes_nowhere(store: Store) -> None:
    await store.record([a_message("SM1", hold_reason=HoldReason.CHANNEL_PAUSED)])

    found = await store.find_message("C1", "SM1")

    assert found is not None
    assert found.state is MessageState.HELD
    assert await store.list_destinations() == []


async def test_what_was_never_stored_is_not_found(store: Store) -> None:
    assert await store.find_message("C1", "SM1") is None


async def test_messages_are_listed_newest_first_page_by_page(store: Store) -> None:
    await store.record([a_message(f"SM{number}") for number in range(7)])

    pages, before = [], None
    for _ in range(4):
        page = await store.list_messages(ALL, before=before, limit=2)
        pages.append([message.sequence for message in page.messages])
        before = page.next_before

    assert pages == [[7, 6], [5, 4], [3, 2], [1]]
    assert before is None


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (MessageFilter(channel_config_id="C2"), ["in C2"]),
        (MessageFilter(channel_config_id="C1", sender="whatsapp:+2"), ["from 2"]),
        (MessageFilter(destination="bot"), ["to bot"]),
        (MessageFilter(state=MessageState.HELD), ["held"]),
        (MessageFilter(state=MessageState.PENDING), ["later", "to bot", "from 2", "in C2"]),
        (MessageFilter(start_at=1_700_000_000_000_000 + 60_000_000), ["later"]),
        (MessageFilter(end_at=1_700_000_000_000_000 + 60_000_000), ["held", "to bot", "from 2", "in C2"]),
        (MessageFilter(channel_config_id="C9"), []),
    ],
)
async def test_a_listing_holds_what_its_filter_lets_through(
    store: Store, clock: ManualClock, which: MessageFilter, expected: list[str]
) -> None:
    await store.record(
        [
            a_message("in C2", channel="C2", payload=b"in C2"),
            a_message("from 2", sender="whatsapp:+2", payload=b"from 2"),
            a_message("to bot", destinations=("bot",), payload=b"to bot"),
            a_message("held", hold_reason=HoldReason.UNROUTED, destinations=(), payload=b"held"),
        ]
    )
    clock.advance(60)
    await store.record([a_message("later", payload=b"later")])

    page = await store.list_messages(which, before=None, limit=10)

    assert [message.payload.decode() for message in page.messages] == expected


async def test_a_listing_of_few_among_many_comes_in_short_pages(store: Store) -> None:
    await store.record([a_message("rare", channel="rare")])
    for start in range(0, 6000, 1000):
        await store.record([a_message(f"SM{start + number}", destinations=()) for number in range(1000)])

    found: list[StoredMessage] = []
    before, pages = None, 0
    while pages == 0 or before is not None:
        page = await store.list_messages(MessageFilter(destination="default"), before=before, limit=10)
        found += page.messages
        before, pages = page.next_before, pages + 1

    assert [message.sequence for message in found] == [1]
    assert pages == 2
