"""The contract of a store: destinations, their settings, and those without order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.errors import Conflict
from service.models import (
    AckStatus,
    Conversation,
    DeadLetterSelection,
    Decision,
    DeliveryState,
    DestinationSettings,
    DestinationStatus,
    HoldReason,
    Release,
    SettlementKind,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_channel, a_message
from tests.service.consumers import PLAIN, Consumer, configure

UNORDERED = replace(PLAIN, is_ordered=False)


@pytest.fixture
async def consumer(store: Store) -> Consumer:
    """Of a destination without order."""
    await configure(store, UNORDERED)
    return Consumer(store)


async def status_of(store: Store, name: str = "default") -> DestinationStatus:
    return {status.name: status for status in await store.list_destinations()}[name]


async def test_settings_are_stored_and_told(store: Store) -> None:
    settings = DestinationSettings(5.0, 7, 0.5, 30.0, 0.1, is_ordered=False, retention_seconds=86_400.0)

    changed = await store.update_destination("new", lambda now: settings if now == DestinationSettings() else now)

    assert changed == settings
    assert (await status_of(store, "new")).settings == settings


async def test_a_change_starts_from_what_is_there(store: Store) -> None:
    await store.update_destination("bot", lambda now: replace(now, max_attempts=3))
    changed = await store.update_destination("bot", lambda now: replace(now, is_ordered=False))

    assert (changed.max_attempts, changed.is_ordered) == (3, False)


async def test_a_change_that_is_refused_stores_nothing(store: Store) -> None:
    def refuse(_: DestinationSettings) -> DestinationSettings:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.update_destination("new", refuse)

    assert not await store.list_destinations()


async def test_destinations_count_what_waits_is_out_and_is_dead(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(destination="idle"))
    await configure(store, replace(PLAIN, max_attempts=1))
    await store.record([a_message("SM0", sender="whatsapp:+9"), a_message("SM1", sender="whatsapp:+9")])
    consumer = Consumer(store)
    await consumer.nack(await consumer.take_one())
    clock.advance(1)
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number % 2}") for number in range(2, 7)])
    await consumer.take(limit=2, lease_seconds=10.0)

    first_at = clock.now - 1_000_000
    assert tuple(await status_of(store))[:5] == ("default", 6, 2, first_at, 1)
    assert tuple(await status_of(store, "idle"))[:5] == ("idle", 0, 0, None, 0)
    clock.advance(10)  # they are not out any more, though nobody has noticed
    assert (await status_of(store)).leased == 0


async def test_without_order_several_of_a_conversation_are_out_at_once(consumer: Consumer) -> None:
    await consumer.store.record([a_message(f"SM{number}") for number in range(5)])

    deliveries = await consumer.take()

    assert [delivery.sequence for delivery in deliveries] == [1, 2, 3, 4, 5]
    assert (await status_of(consumer.store))[1:3] == (5, 5)
    await consumer.nack(deliveries[0], 0.0)
    for delivery in deliveries[1:]:
        assert await consumer.ack(delivery) is AckStatus.OK
    assert await consumer.take_all() == [1]
    assert (await status_of(consumer.store))[1:3] == (0, 0)


async def test_without_order_each_has_its_own_attempts_and_back_off(consumer: Consumer, clock: ManualClock) -> None:
    await consumer.store.record([a_message("SM1"), a_message("SM2")])
    first, second = await consumer.take()
    await consumer.nack(first)
    assert not await consumer.take()
    clock.advance(1)
    (again,) = await consumer.take()

    assert (again.sequence, again.attempt) == (1, 2)
    await consumer.settle(second, SettlementKind.RETURN)
    assert (await consumer.take_one()).attempt == 1


@pytest.mark.parametrize("kind", [SettlementKind.ACK, SettlementKind.NACK, SettlementKind.EXTEND])
async def test_without_order_a_settled_ack_id_is_stale(consumer: Consumer, kind: SettlementKind) -> None:
    await consumer.store.record([a_message("SM1")])
    delivery = await consumer.take_one()
    await consumer.ack(delivery)

    assert await consumer.settle(delivery, kind, 60.0) is AckStatus.STALE


async def test_without_order_a_message_tells_its_state(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM1"), a_message("SM2")])
    await consumer.take_one()

    states = []
    for sid in ("SM1", "SM2"):
        found = await consumer.store.find_message("C1", sid)
        assert found is not None
        states += [status.state for status in found.deliveries]

    assert states == [DeliveryState.LEASED, DeliveryState.WAITING]


async def test_without_order_dead_letters_come_again_beside_the_others(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM1"), a_message("SM2")])
    first, _ = await consumer.take()
    await configure(consumer.store, replace(UNORDERED, max_attempts=1))
    await consumer.nack(first)

    await consumer.store.redrive(DeadLetterSelection(), after=0, limit=10)

    assert [delivery.sequence for delivery in await consumer.take()] == [1]


async def test_without_order_released_messages_come_beside_the_others(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM1", hold_reason=HoldReason.UNROUTED), a_message("SM2")])
    await consumer.take_one()

    await consumer.store.release([Release(1, Decision(("default",)))])

    assert [delivery.sequence for delivery in await consumer.take()] == [1]


async def test_what_was_stored_in_order_stays_in_order(store: Store) -> None:
    consumer = Consumer(store)
    await store.record([a_message("SM1"), a_message("SM2")])
    await configure(store, UNORDERED)
    await store.record([a_message("SM3"), a_message("SM4")])

    assert [delivery.sequence for delivery in await consumer.take()] == [1, 3, 4]


async def test_what_was_stored_without_order_does_not_hold_up_what_is_stored_in_order(consumer: Consumer) -> None:
    await consumer.store.record([a_message("SM1"), a_message("SM2")])
    await configure(consumer.store)
    await consumer.store.record([a_message("SM3"), a_message("SM4")])

    assert [delivery.sequence for delivery in await consumer.take()] == [1, 2, 3]


async def test_a_conversation_can_be_handed_over_by_a_destination_without_order(consumer: Consumer) -> None:
    await consumer.store.record([a_message(f"SM{number}") for number in range(1, 4)])
    first, second = await consumer.take(limit=2)
    agents = Consumer(consumer.store, "agents")

    outcome = await consumer.store.assign(Conversation("C1", "whatsapp:+1"), "agents", ttl_seconds=60)

    assert outcome.moved == 1
    assert not await agents.take()
    await consumer.ack(first)
    assert not await agents.take()
    await consumer.nack(second)
    assert await consumer.take_all() == []
    assert await agents.take_all() == [2, 3]


async def test_a_conversation_can_be_handed_over_to_a_destination_without_order(consumer: Consumer) -> None:
    bot = Consumer(consumer.store, "bot")
    await consumer.store.record([a_message(f"SM{number}", destinations=("bot",)) for number in range(1, 4)])
    out = await bot.take_one()

    await consumer.store.assign(Conversation("C1", "whatsapp:+1"), "default", ttl_seconds=60)

    assert not await consumer.take()
    await bot.nack(out)
    assert await consumer.take_all() == [1, 2, 3]
