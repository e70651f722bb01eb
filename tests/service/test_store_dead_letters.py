"""The contract of a store: what fails too often is given up, until an operator settles it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from service.models import (
    AckStatus,
    AttemptOutcome,
    AuditEntry,
    DeadLetterSelection,
    DeliveryState,
    MessageState,
    SettlementKind,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.consumers import EVERYTHING, IMPATIENT, Consumer, configure, dead, give_up


@pytest.fixture
async def consumer(store: Store) -> Consumer:
    await configure(store)
    return Consumer(store)


async def fail(consumer: Consumer, clock: ManualClock, outcome: AttemptOutcome) -> None:
    """Take one delivery and let its attempt end so."""
    delivery = await consumer.take_one()
    if outcome is AttemptOutcome.EXPIRED:
        clock.advance(60)
        assert delivery.sequence not in [each.sequence for each in await consumer.take()]
    else:
        kinds = {AttemptOutcome.NACKED: SettlementKind.NACK, AttemptOutcome.STREAM_BROKEN: SettlementKind.BREAK}
        await consumer.settle(delivery, kinds[outcome])
    clock.advance(10)


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (AttemptOutcome.NACKED, "a consumer gave it back"),
        (AttemptOutcome.EXPIRED, "its lease ran out"),
        (AttemptOutcome.STREAM_BROKEN, "its consumer's stream broke"),
    ],
)
async def test_after_its_last_attempt_a_message_is_given_up_and_its_conversation_goes_on(
    consumer: Consumer, clock: ManualClock, outcome: AttemptOutcome, ending: str
) -> None:
    await consumer.store.record([a_message("SM1", payload=b"poison"), a_message("SM2")])
    for _ in range(2):
        await fail(consumer, clock, outcome)
    assert not await dead(consumer.store)

    delivery = await consumer.take_one()
    if outcome is AttemptOutcome.EXPIRED:
        clock.advance(60)
    else:
        kind = SettlementKind.NACK if outcome is AttemptOutcome.NACKED else SettlementKind.BREAK
        await consumer.settle(delivery, kind)
    after = await consumer.take_one()

    assert (after.sequence, after.attempt) == (2, 1)
    (letter,) = await consumer.store.list_dead_letters(EVERYTHING, before=None, limit=10)
    assert (letter.destination, letter.payload, letter.sequence, letter.dead_at) == ("default", b"poison", 1, clock.now)
    assert letter.reason == f"3 attempts failed; the last one ended because {ending}"
    assert [(attempt.number, attempt.outcome) for attempt in letter.attempts] == [(n, outcome) for n in (1, 2, 3)]
    assert not letter.is_replayed
    assert await consumer.ack(delivery) is AckStatus.STALE


async def test_a_nack_with_a_delay_can_be_the_last_attempt_too(consumer: Consumer) -> None:
    await configure(consumer.store, IMPATIENT)
    await consumer.store.record([a_message("SM1"), a_message("SM2")])

    await consumer.nack(await consumer.take_one(), 600.0)

    assert [delivery.sequence for delivery in await consumer.take()] == [2]


async def test_fewer_attempts_count_from_the_next_failure_on(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM1")])
    await consumer.nack(await consumer.take_one(), 0.0)
    delivery = await consumer.take_one()
    await configure(consumer.store, IMPATIENT)
    assert not await dead(consumer.store)

    await consumer.nack(delivery)

    assert await dead(consumer.store) == [1]


async def test_a_dead_letter_keeps_its_message_pending_and_is_no_backlog(store: Store) -> None:
    await give_up(store, "SM1")

    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert found.state is MessageState.PENDING
    assert [status.state for status in found.deliveries] == [DeliveryState.DEAD_LETTERED]
    (status,) = await store.list_destinations()
    assert (status.backlog, status.leased, status.dead_letters) == (0, 0, 1)


async def test_a_message_can_be_given_up_by_one_of_its_destinations(store: Store) -> None:
    await configure(store, IMPATIENT, destination="bot")
    await store.record([a_message("SM1", destinations=("bot", "default"))])
    bot = Consumer(store, "bot")
    await bot.nack(await bot.take_one())

    assert await Consumer(store).take_all() == [1]
    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert [(status.destination, status.state) for status in found.deliveries] == [
        ("bot", DeliveryState.DEAD_LETTERED),
        ("default", DeliveryState.ACKNOWLEDGED),
    ]


async def test_a_listener_hears_of_dead_letters(store: Store) -> None:
    heard: list[Mapping[str, int]] = []

    class Listener:
        def on_ready(self, destinations: Collection[str]) -> None: ...

        def on_arrivals(self, counts: Mapping[str, int]) -> None: ...

        def on_dead_letters(self, counts: Mapping[str, int]) -> None:
            heard.append(dict(counts))

        def on_directory_change(self) -> None: ...

    store.listen(Listener())
    await give_up(store, "SM1")

    assert heard == [{"default": 1}]


async def test_dead_letters_are_listed_newest_first_page_by_page(store: Store) -> None:
    await give_up(store, "SM1", "SM2", "SM3")

    first = await store.list_dead_letters(EVERYTHING, before=None, limit=2)
    second = await store.list_dead_letters(EVERYTHING, before=first[-1].number, limit=2)

    assert [letter.sequence for letter in (*first, *second)] == [3, 2, 1]


async def test_a_discarded_one_is_settled_and_goes_nowhere(store: Store, clock: ManualClock) -> None:
    await give_up(store, "SM1")

    assert await store.discard_dead_letters(EVERYTHING, after=0, limit=10) == (1, None)

    found = await store.find_message("C1", "SM1")
    assert found is not None
    (status,) = found.deliveries
    assert (status.state, status.attempts, status.settled_at) == (DeliveryState.DISCARDED, 1, clock.now)
    assert found.state is MessageState.DELIVERED
    assert await Consumer(store).take_all() == []


async def test_what_an_operator_does_is_audited_and_what_he_does_not_is_not(store: Store) -> None:
    await give_up(store, "SM1", "SM2")
    await give_up(store, "SM3", destination="bot")
    await store.redrive(DeadLetterSelection(destination="default"), after=0, limit=10, actor="anna")
    await store.discard_dead_letters(EVERYTHING, after=0, limit=10, actor="bert")
    await store.redrive(EVERYTHING, after=0, limit=10, actor="carl")

    assert [(entry.actor, entry.action, dict(entry.details)) for entry in await _audit(store)] == [
        ("bert", "dead-letter-discard", {"destination": "bot", "messages": "1"}),
        ("anna", "redrive", {"destination": "default", "messages": "2"}),
    ]


async def _audit(store: Store) -> list[AuditEntry]:
    entries = await store.list_audit(None, before=None, limit=10)
    return [entry for entry in entries if entry.action != "destination-update"]
