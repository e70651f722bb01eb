"""The contract of a store: a conversation stays, for a time, where its channel has it routed."""

from __future__ import annotations

import asyncio

import pytest

from service.models import Assignment, AssignmentReason, Conversation, HoldReason
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.consumers import Consumer

CONVERSATION = Conversation("C1", "whatsapp:+1")
SECOND = 1_000_000


@pytest.fixture
def bot(store: Store) -> Consumer:
    return Consumer(store, "bot")


@pytest.fixture
def agents(store: Store) -> Consumer:
    return Consumer(store, "agents")


async def record(store: Store, *sids: str, destinations: tuple[str, ...] = ("bot",), affinity_seconds: int = 0) -> None:
    await store.record([a_message(sid, destinations=destinations, affinity_seconds=affinity_seconds) for sid in sids])


async def assign(store: Store, destination: str = "agents", *, seconds: float = 3600) -> None:
    await store.assign(CONVERSATION, destination, ttl_seconds=seconds)


async def destinations_of(store: Store, sid: str) -> tuple[str, ...]:
    found = await store.find_message("C1", sid)
    assert found is not None
    return found.decision.destinations


async def test_affinity_keeps_a_conversation_where_it_was_routed(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    await record(bot.store, "SM1", destinations=("agents",), affinity_seconds=60)
    clock.advance(40)
    await record(bot.store, "SM2", affinity_seconds=60)
    clock.advance(40)  # it was prolonged
    await record(bot.store, "SM3", affinity_seconds=60)

    assert await bot.store.find_assignment(CONVERSATION) == Assignment(
        "agents", clock.now - 80 * SECOND, clock.now + 60 * SECOND, AssignmentReason.AFFINITY
    )
    clock.advance(60)
    await record(bot.store, "SM4", affinity_seconds=60)

    assert await agents.take_all() == [1, 2, 3]
    assert await bot.take_all() == [4]


async def test_whichever_of_messages_at_once_is_first_decides_for_all_of_them(bot: Consumer, agents: Consumer) -> None:
    first, second, third = (
        a_message(sid, destinations=(destination,), affinity_seconds=60)
        for sid, destination in (("SM1", "agents"), ("SM2", "bot"), ("SM3", "bot"))
    )
    busy = asyncio.create_task(bot.store.check_alive())
    await asyncio.sleep(0)
    one = asyncio.create_task(bot.store.record([first, second]))
    await asyncio.sleep(0)
    await asyncio.gather(busy, one, bot.store.record([third]))

    assert sorted([await agents.take_all(), await bot.take_all()]) == [[], [1, 2, 3]]


async def test_affinity_is_nothing_to_a_channel_that_no_longer_wants_it(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", destinations=("agents",), affinity_seconds=60)
    await record(bot.store, "SM2")

    assert await destinations_of(bot.store, "SM2") == ("bot",)


async def test_affinity_does_not_replace_an_assignment(bot: Consumer, clock: ManualClock) -> None:
    await assign(bot.store, seconds=60)
    await record(bot.store, "SM1", affinity_seconds=600)

    found = await bot.store.find_assignment(CONVERSATION)
    assert found == Assignment("agents", clock.now, clock.now + 60 * SECOND, AssignmentReason.ASSIGNED)

    clock.advance(60)
    await record(bot.store, "SM2", affinity_seconds=600)
    found = await bot.store.find_assignment(CONVERSATION)
    assert found == Assignment("bot", clock.now, clock.now + 600 * SECOND, AssignmentReason.AFFINITY)


async def test_an_assignment_replaces_affinity(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", affinity_seconds=600)
    await assign(bot.store)
    await record(bot.store, "SM2", affinity_seconds=600)

    assert await agents.take_all() == [1, 2]


async def test_neither_a_held_message_nor_a_repeat_begins_affinity(bot: Consumer, clock: ManualClock) -> None:
    await record(bot.store, "SM1")
    await record(bot.store, "SM1", affinity_seconds=60)
    await bot.store.record([a_message("SM2", hold_reason=HoldReason.CHANNEL_PAUSED, affinity_seconds=60)])

    assert await bot.store.find_assignment(CONVERSATION) is None
