"""The contract of a store: dead letters are put back, in order, and anew."""

from __future__ import annotations

import pytest

from service.models import AckStatus, DeadLetterSelection, MessageKey, Replay, ReplaySelection
from service.store.contract import Store
from tests.service.builders import a_message
from tests.service.consumers import EVERYTHING, IMPATIENT, PLAIN, Consumer, configure, dead, give_up


async def test_redriven_ones_keep_their_order_and_come_before_what_is_not_delivered_yet(store: Store) -> None:
    await give_up(store, "SM1", "SM2", "SM3")
    await store.record([a_message("SM4"), a_message("SM5")])

    page = await store.redrive(EVERYTHING, after=0, limit=10)

    assert (page.settled, page.next_after) == (3, None)
    assert await Consumer(store).take_all() == [1, 2, 3, 4, 5]


async def test_what_is_redriven_one_by_one_comes_in_the_original_order(store: Store) -> None:
    await give_up(store, "SM1", "SM2", "SM3")
    await store.record([a_message("SM4")])
    for sid in ("SM2", "SM3", "SM1"):
        await store.redrive(DeadLetterSelection(keys=(MessageKey("C1", sid),)), after=0, limit=10)

    assert await Consumer(store).take_all() == [1, 2, 3, 4]


async def test_redriven_ones_come_after_the_delivery_that_is_out(store: Store) -> None:
    await give_up(store, "SM1", "SM2")
    await store.record([a_message("SM3"), a_message("SM4")])
    consumer = Consumer(store)
    out = await consumer.take_one()

    await store.redrive(EVERYTHING, after=0, limit=10)

    assert not await consumer.take()
    assert await consumer.ack(out) is AckStatus.OK
    assert await consumer.take_all() == [1, 2, 4]


async def test_redriven_ones_have_all_their_attempts_again(store: Store) -> None:
    await give_up(store, "SM1")
    await store.redrive(EVERYTHING, after=0, limit=10)
    consumer = Consumer(store)

    attempts = []
    for _ in range(PLAIN.max_attempts):
        delivery = await consumer.take_one()
        attempts.append(delivery.attempt)
        await consumer.nack(delivery, 0.0)

    assert attempts == [1, 2, 3]
    assert await dead(store) == [1]


async def test_redriven_ones_do_not_inherit_the_attempts_of_what_they_are_put_before(store: Store) -> None:
    await give_up(store, "SM1")
    await store.record([a_message("SM2")])
    consumer = Consumer(store)
    await consumer.nack(await consumer.take_one(), 30.0)

    await store.redrive(EVERYTHING, after=0, limit=10)

    delivery = await consumer.take_one()
    assert (delivery.sequence, delivery.attempt) == (1, 1)


async def test_a_redriven_one_does_not_come_before_its_conversation_of_another_destination(store: Store) -> None:
    await give_up(store, "SM1", destination="bot")

    await store.redrive(EVERYTHING, after=0, limit=10)

    assert await Consumer(store, "default").take_all() == []
    assert await Consumer(store, "bot").take_all() == [1]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (EVERYTHING, [1, 2, 3, 4]),
        (DeadLetterSelection(destination="bot"), [3]),
        (DeadLetterSelection(channel_config_id="C2"), [4]),
        (DeadLetterSelection(destination="default", channel_config_id="C1"), [1, 2]),
        (DeadLetterSelection(keys=(MessageKey("C1", "SM2"), MessageKey("C1", "SM3"))), [2, 3]),
        (DeadLetterSelection(destination="bot", keys=(MessageKey("C1", "SM2"), MessageKey("C1", "SM3"))), [3]),
        (DeadLetterSelection(keys=(MessageKey("C2", "SM1"), MessageKey("C9", "SM9"))), []),
        (DeadLetterSelection(destination="archive"), []),
    ],
)
async def test_a_selection_lets_through_what_fits_all_of_it(
    store: Store, which: DeadLetterSelection, expected: list[int]
) -> None:
    await give_up(store, "SM1", "SM2")
    await give_up(store, "SM3", destination="bot")
    await give_up(store, "SM4", channel="C2")

    assert await dead(store, which) == expected[::-1]
    assert (await store.redrive(which, after=0, limit=10)).settled == len(expected)
    assert sorted(await dead(store)) == [number for number in (1, 2, 3, 4) if number not in expected]


async def test_dead_letters_are_settled_page_by_page(store: Store) -> None:
    await give_up(store, *(f"SM{number}" for number in range(5)))

    first = await store.redrive(EVERYTHING, after=0, limit=2)
    assert first.next_after is not None
    second = await store.discard_dead_letters(EVERYTHING, after=first.next_after, limit=2)
    assert second.next_after is not None
    last = await store.redrive(EVERYTHING, after=second.next_after, limit=2)

    assert ([first.settled, second.settled, last.settled], last.next_after) == ([2, 2, 1], None)
    assert await Consumer(store).take_all() == [1, 2, 5]


async def test_a_repeat_finds_nothing_any_more(store: Store) -> None:
    await give_up(store, "SM1")
    await store.redrive(EVERYTHING, after=0, limit=10)

    assert await store.redrive(EVERYTHING, after=0, limit=10) == (0, None)
    assert await store.discard_dead_letters(EVERYTHING, after=0, limit=10) == (0, None)
    assert await Consumer(store).take_all() == [1]


async def test_a_replayed_one_is_marked_and_goes_back_to_the_replays(store: Store) -> None:
    await configure(store, IMPATIENT)
    consumer = Consumer(store)
    await store.record([a_message("SM1")])
    await consumer.take_all()
    await store.start_replay(Replay("r1", "default", ReplaySelection(channel_config_id="C1"), 100, "anna"))
    await store.advance_replays()
    await consumer.nack(await consumer.take_one())
    await store.record([a_message("SM2")])

    (letter,) = await store.list_dead_letters(EVERYTHING, before=None, limit=10)
    await store.redrive(EVERYTHING, after=0, limit=10)

    assert letter.is_replayed
    out = await consumer.take()
    assert sorted((delivery.sequence, delivery.is_replayed) for delivery in out) == [(1, True), (2, False)]
