"""Releases, and what they find when they happen: assignments, and deliveries that have failed before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.models import (
    ClaimedDelivery,
    Conversation,
    DeadLetterSelection,
    Decision,
    HoldReason,
    Release,
    Settlement,
    SettlementKind,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message

SENDER = Conversation("C1", "whatsapp:+1")
EVERYTHING = DeadLetterSelection()


async def hold(store: Store, sid: str) -> int:
    (recorded,) = await store.record([a_message(sid, destinations=(), hold_reason=HoldReason.UNROUTED)])
    return recorded.sequence


async def claim(store: Store, destination: str = "default") -> Sequence[ClaimedDelivery]:
    return (await store.claim(destination, limit=9, max_bytes=10**9, lease_seconds=60)).deliveries


async def settle(store: Store, delivery: ClaimedDelivery, kind: SettlementKind) -> None:
    (status,) = await store.settle("default", [Settlement(delivery.token, kind, 0.0)])
    assert status.value == "ok"


async def test_what_is_released_by_its_routes_goes_where_its_conversation_was_assigned_meanwhile(store: Store) -> None:
    decided = Release(await hold(store, "SM1"), Decision(("bot", "archive")), follows_assignment=True)
    await store.assign(SENDER, "agents", ttl_seconds=60)

    released = await store.release([decided])

    assert released[decided.sequence].destinations == ("agents", "archive")
    assert [each.sequence for each in await claim(store, "agents")] == [decided.sequence]
    assert not await claim(store, "bot")


async def test_what_is_sent_somewhere_by_hand_goes_there_whatever_is_assigned(store: Store) -> None:
    sequence = await hold(store, "SM1")
    await store.assign(SENDER, "agents", ttl_seconds=60)

    assert await store.release([Release(sequence, Decision(("bot",)))]) == {sequence: Decision(("bot",))}

    assert [each.sequence for each in await claim(store, "bot")] == [sequence]


@pytest.mark.parametrize(("affinity_seconds", "destination"), [(0, "sales"), (60, "bot")])
async def test_a_release_stays_with_its_conversation_only_while_the_channel_wants_that(
    store: Store, affinity_seconds: int, destination: str
) -> None:
    sequence = await hold(store, "SM1")
    await store.record([a_message("SM2", destinations=("bot",), affinity_seconds=60)])
    decision = Decision(("sales",), affinity_seconds=affinity_seconds)

    released = await store.release([Release(sequence, decision, follows_assignment=True)])

    assert released[sequence].destinations == (destination,)


async def test_what_is_routed_anew_goes_where_its_conversation_was_assigned_meanwhile(store: Store) -> None:
    await store.record([a_message("SM1", destinations=("bot",))])
    decided = Release(1, Decision(("sales",)), follows_assignment=True)
    await store.assign(SENDER, "agents", ttl_seconds=60)

    routed = await store.re_route([decided])

    assert routed[1].decision.destinations == ("agents",)
    assert not routed[1].has_changed
    assert [each.sequence for each in await claim(store, "agents")] == [1]


async def test_what_had_failed_keeps_its_attempts_when_something_is_released_before_it(
    store: Store, clock: ManualClock
) -> None:
    held = await hold(store, "SM1")
    await store.record([a_message("SM2")])
    for _ in range(2):
        (delivery,) = await claim(store)
        await settle(store, delivery, SettlementKind.NACK)
    await store.release([Release(held, Decision(("default",)))])

    (released,) = await claim(store)
    await settle(store, released, SettlementKind.ACK)
    (failed,) = await claim(store)

    assert (released.sequence, released.attempt) == (held, 1)
    assert (failed.sequence, failed.attempt) == (2, 3)


async def test_what_was_redriven_and_fails_keeps_its_attempts_when_a_later_one_is_redriven_behind_it(
    store: Store,
) -> None:
    await store.update_destination("default", lambda settings: settings.__class__(max_attempts=2))
    await store.record([a_message("SM1"), a_message("SM2")])
    for _ in range(4):
        (delivery,) = await claim(store)
        await settle(store, delivery, SettlementKind.NACK)
    await store.redrive(EVERYTHING, after=0, limit=1)
    (first,) = await claim(store)
    await settle(store, first, SettlementKind.NACK)

    await store.redrive(EVERYTHING, after=0, limit=1)
    (again,) = await claim(store)
    await settle(store, again, SettlementKind.NACK)
    (second,) = await claim(store)

    assert (first.sequence, again.sequence, second.sequence) == (1, 1, 2)
    assert (first.attempt, again.attempt, second.attempt) == (1, 2, 1)
