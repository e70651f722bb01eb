"""The contract of a store: attempts that fail are counted, kept, and followed by a back-off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.models import AckStatus, AttemptOutcome, DeliveryState, SettlementKind
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.consumers import PLAIN, Consumer, configure

SECOND = 1_000_000
PATIENT = replace(PLAIN, max_attempts=100)

FAILURES = [SettlementKind.NACK, SettlementKind.BREAK]


@pytest.fixture
async def consumer(store: Store) -> Consumer:
    """Its destination has one message, no jitter, and attempts enough."""
    await configure(store, PATIENT)
    await store.record([a_message("SM1")])
    return Consumer(store)


async def waits_until(consumer: Consumer, clock: ManualClock) -> float:
    """Let time pass until something is claimable; return how many seconds that took."""
    due_at = await consumer.next_due_at()
    assert due_at is not None
    seconds = (due_at - clock.now) / SECOND
    clock.now = due_at
    return seconds


@pytest.mark.parametrize("kind", FAILURES)
async def test_the_back_off_doubles_from_its_minimum_to_its_maximum(
    consumer: Consumer, clock: ManualClock, kind: SettlementKind
) -> None:
    waits = []
    for _ in range(6):
        await consumer.settle(await consumer.take_one(), kind)
        waits.append(await waits_until(consumer, clock))

    assert waits == [1, 2, 4, 8, 8, 8]


async def test_jitter_leaves_out_some_of_a_back_off(store: Store, clock: ManualClock) -> None:
    await configure(store, replace(PATIENT, backoff_jitter=0.5))
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number}") for number in range(50)])
    consumer = Consumer(store)
    for delivery in await consumer.take():
        await consumer.nack(delivery)

    clock.advance(0.499)
    early = await consumer.take()
    clock.advance(0.3)
    some = await consumer.take()
    clock.advance(0.201)

    assert not early
    assert 0 < len(some) < 50
    assert len(some) + len(await consumer.take()) == 50


async def test_a_nack_with_a_delay_waits_for_that(consumer: Consumer, clock: ManualClock) -> None:
    await consumer.nack(await consumer.take_one(), 30.0)
    assert await waits_until(consumer, clock) == 30

    await consumer.nack(await consumer.take_one(), 0.0)
    assert (await consumer.take_one()).attempt == 3


async def test_the_back_off_of_a_lease_that_ran_out_begins_with_its_end(consumer: Consumer, clock: ManualClock) -> None:
    delivery = await consumer.take_one()
    clock.advance(60.4)

    assert await consumer.next_due_at() == delivery.deadline_at + SECOND

    clock.advance(0.6)
    assert (await consumer.take_one()).attempt == 2


async def test_a_lease_that_ran_out_long_ago_has_had_its_back_off(consumer: Consumer, clock: ManualClock) -> None:
    await consumer.take_one()
    clock.advance(3600)

    assert (await consumer.take_one()).attempt == 2


async def test_what_is_returned_comes_at_once_and_counts_for_nothing(consumer: Consumer, clock: ManualClock) -> None:
    for _ in range(PATIENT.max_attempts + 1):
        delivery = await consumer.take_one()
        assert delivery.attempt == 1
        assert await consumer.settle(delivery, SettlementKind.RETURN) is AckStatus.OK

    found = await consumer.store.find_message("C1", "SM1")
    assert found is not None
    assert not found.deliveries[0].failed_attempts


async def test_a_return_forgets_no_earlier_attempt(consumer: Consumer) -> None:
    await consumer.nack(await consumer.take_one(), 0.0)
    await consumer.settle(await consumer.take_one(), SettlementKind.RETURN)

    assert (await consumer.take_one()).attempt == 2


async def test_a_message_tells_its_failed_attempts(consumer: Consumer, clock: ManualClock) -> None:
    began_at = clock.now
    for kind in FAILURES:
        delivery = await consumer.take_one()
        clock.advance(5)
        await consumer.settle(delivery, kind, 0.0)
    await consumer.take_one(lease_seconds=60.0)
    clock.advance(600)
    last = await consumer.take_one()
    clock.advance(2)
    assert await consumer.ack(last) is AckStatus.OK

    found = await consumer.store.find_message("C1", "SM1")
    assert found is not None
    (status,) = found.deliveries
    assert [tuple(attempt) for attempt in status.failed_attempts] == [
        (1, began_at, began_at + 5 * SECOND, AttemptOutcome.NACKED),
        (2, began_at + 5 * SECOND, began_at + 10 * SECOND, AttemptOutcome.STREAM_BROKEN),
        (3, began_at + 10 * SECOND, began_at + 70 * SECOND, AttemptOutcome.EXPIRED),
    ]
    assert (status.state, status.attempts) == (DeliveryState.ACKNOWLEDGED, 4)
    assert (status.delivered_at, status.settled_at) == (began_at + 610 * SECOND, began_at + 612 * SECOND)


@pytest.mark.parametrize("is_noticed", [False, True])
async def test_after_its_lease_a_delivery_can_be_acknowledged_and_nothing_else(
    consumer: Consumer, clock: ManualClock, is_noticed: bool
) -> None:
    delivery = await consumer.take_one()
    clock.advance(60)
    if is_noticed:
        assert not await consumer.take()  # it waits for its back-off

    assert await consumer.nack(delivery) is AckStatus.STALE
    for kind in (SettlementKind.BREAK, SettlementKind.RETURN):
        assert await consumer.settle(delivery, kind) is AckStatus.STALE
    assert await consumer.settle(delivery, SettlementKind.EXTEND, 60.0) is AckStatus.STALE
    assert await consumer.ack(delivery) is AckStatus.OK
    clock.advance(600)
    assert not await consumer.take()


@pytest.mark.parametrize("is_noticed", [False, True])
async def test_a_late_acknowledgement_tells_how_many_attempts_it_took(
    consumer: Consumer, clock: ManualClock, is_noticed: bool
) -> None:
    await consumer.nack(await consumer.take_one(), 0.0)
    delivery = await consumer.take_one()
    clock.advance(60)
    if is_noticed:
        await consumer.take()
    await consumer.ack(delivery)

    found = await consumer.store.find_message("C1", "SM1")
    assert found is not None
    assert found.deliveries[0].attempts == 2


@pytest.mark.parametrize("kind", [*FAILURES, SettlementKind.RETURN])
async def test_a_settled_attempt_is_over(consumer: Consumer, kind: SettlementKind) -> None:
    delivery = await consumer.take_one()
    await consumer.settle(delivery, kind, 0.0)

    assert await consumer.ack(delivery) is AckStatus.STALE
    assert (await consumer.take_one()).sequence == delivery.sequence


async def test_an_extension_can_make_a_lease_shorter(consumer: Consumer, clock: ManualClock) -> None:
    delivery = await consumer.take_one()
    await consumer.settle(delivery, SettlementKind.EXTEND, 5.0)
    clock.advance(6)

    assert (await consumer.take_one()).attempt == 2


async def test_a_claim_without_a_lease_of_its_own_takes_that_of_the_destination(
    consumer: Consumer, clock: ManualClock
) -> None:
    await configure(consumer.store, replace(PATIENT, ack_deadline_seconds=17.0))

    assert (await consumer.take_one(lease_seconds=None)).deadline_at == clock.now + 17 * SECOND


async def test_other_conversations_do_not_wait_for_a_back_off(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM2"), a_message("SM3", sender="whatsapp:+3")])
    first = next(delivery for delivery in await consumer.take() if delivery.sequence == 1)
    await consumer.nack(first, 30.0)
    await consumer.store.record([a_message("SM4", sender="whatsapp:+4")])

    assert [delivery.sequence for delivery in await consumer.take()] == [4]


async def test_what_expires_together_is_claimed_together_after_its_back_off(
    consumer: Consumer, clock: ManualClock
) -> None:
    await consumer.store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number}") for number in range(2, 60)])
    assert len(await consumer.take()) == 59
    clock.advance(61)

    assert len(await consumer.take()) == 59


async def test_bytes_bound_a_claim_that_has_to_look_twice(store: Store, clock: ManualClock) -> None:
    messages = [a_message(f"SM{number}", sender=f"whatsapp:+{number}", payload=b"x" * 100) for number in range(4)]
    await store.record(messages[:2])
    await Consumer(store).take()
    clock.advance(3600)  # these have to be ended before they can be claimed
    await store.record(messages[2:])

    claimed = await store.claim("default", limit=100, max_bytes=250, lease_seconds=60.0)

    assert len(claimed.deliveries) == 2
