"""The contract of a store: a conversation stays with a destination, and what waits moves there, in order."""

from __future__ import annotations

import pytest

from service.models import (
    AckStatus,
    AckToken,
    Assignment,
    AssignmentOutcome,
    AssignmentReason,
    Conversation,
    Decision,
    DeliveryKey,
    HoldReason,
    Release,
    Replay,
    ReplaySelection,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.consumers import Consumer, configure

SENDER = "whatsapp:+1"
CONVERSATION = Conversation("C1", SENDER)
SECOND = 1_000_000


@pytest.fixture
async def bot(store: Store) -> Consumer:
    for name in ("bot", "agents"):
        await configure(store, destination=name)
    return Consumer(store, "bot")


@pytest.fixture
async def agents(store: Store) -> Consumer:
    return Consumer(store, "agents")


async def record(store: Store, *sids: str, destinations: tuple[str, ...] = ("bot",)) -> None:
    await store.record([a_message(sid, destinations=destinations) for sid in sids])


async def assign(
    store: Store, destination: str | None = "agents", *, seconds: float = 3600, ack: DeliveryKey | None = None
) -> AssignmentOutcome:
    return await store.assign(CONVERSATION, destination, ttl_seconds=seconds, ack=ack)


async def destinations_of(store: Store, sid: str) -> tuple[str, ...]:
    found = await store.find_message("C1", sid)
    assert found is not None
    return found.decision.destinations


async def test_what_waits_moves_in_order_and_what_comes_follows(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", "SM2")
    await bot.store.record([a_message("other", sender="whatsapp:+2", destinations=("bot",))])

    outcome = await assign(bot.store)
    await record(bot.store, "SM4")

    assert outcome.moved == 2
    assert await agents.take_all() == [1, 2, 4]
    assert await bot.take_all() == [3]


async def test_a_moved_message_tells_where_it_went_and_why(bot: Consumer) -> None:
    await record(bot.store, "SM1", destinations=("bot", "archive"))
    await assign(bot.store)
    await record(bot.store, "SM2", destinations=("bot", "archive"))

    for sid in ("SM1", "SM2"):
        found = await bot.store.find_message("C1", sid)
        assert found is not None
        assert found.decision.destinations == ("agents", "archive")
        assert found.decision.assignment_reason is AssignmentReason.ASSIGNED


async def test_copies_stay_where_they_are(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", "SM2", destinations=("bot", "archive"))
    await assign(bot.store)
    await record(bot.store, "SM3", destinations=("bot", "archive"))

    assert await agents.take_all() == [1, 2, 3]
    assert await Consumer(bot.store, "archive").take_all() == [1, 2, 3]
    assert await bot.take_all() == []


async def test_a_copy_for_the_old_destination_stays_there(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", destinations=("bot",))
    await record(bot.store, "SM2", destinations=("shop", "bot"))

    await assign(bot.store)

    assert await bot.take_all() == [2]
    assert await agents.take_all() == [1, 2]


async def test_a_target_that_has_a_copy_gets_no_second_one(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", "SM2", destinations=("bot", "agents"))
    assert (await agents.take_one()).sequence == 1

    await assign(bot.store)
    await record(bot.store, "SM3", destinations=("bot", "agents"))

    assert await destinations_of(bot.store, "SM1") == await destinations_of(bot.store, "SM3") == ("agents",)
    assert await bot.take_all() == []
    (status,) = [each for each in await bot.store.list_destinations() if each.name == "agents"]
    assert (status.backlog, status.leased) == (3, 1)


async def test_what_is_moved_comes_in_order_with_what_waits_there(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1")
    await record(bot.store, "SM2", destinations=("agents",))
    await record(bot.store, "SM3")
    await record(bot.store, "SM4", destinations=("agents",))

    await assign(bot.store)

    assert await agents.take_all() == [1, 2, 3, 4]


async def test_what_is_moved_comes_after_what_is_out_there(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1")
    await record(bot.store, "SM2", "SM3", destinations=("agents",))
    out = await agents.take_one()

    await assign(bot.store)

    assert not await agents.take()
    await agents.nack(out, 0.0)
    assert await agents.take_all() == [2, 1, 3]


async def test_replays_do_not_move(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1")
    await bot.take_all()
    selection = ReplaySelection(channel_config_id="C1")
    await bot.store.start_replay(Replay("r1", "bot", selection, 100, "anna"))
    await bot.store.advance_replays()

    assert (await assign(bot.store)).moved == 0

    assert await agents.take_all() == []
    assert (await bot.take_one()).is_replayed


async def test_held_messages_do_not_move(bot: Consumer, agents: Consumer) -> None:
    await bot.store.record([a_message("SM1", destinations=(), hold_reason=HoldReason.UNROUTED)])

    assert (await assign(bot.store)).moved == 0
    await bot.store.release([Release(1, Decision(("bot",)))])

    assert await bot.take_all() == [1]
    assert await agents.take_all() == []


async def test_dead_letters_do_not_move(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1")
    for _ in range(3):
        await bot.nack(await bot.take_one(), 0.0)

    assert (await assign(bot.store)).moved == 0
    assert await destinations_of(bot.store, "SM1") == ("bot",)


async def test_moved_messages_have_all_their_attempts_again(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1")
    await bot.nack(await bot.take_one(), 600.0)

    await assign(bot.store)

    assert (await agents.take_one()).attempt == 1


async def test_a_delivery_is_acknowledged_in_the_same_call(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", "SM2")
    delivery = await bot.take_one()

    outcome = await assign(bot.store, ack=DeliveryKey("bot", delivery.token))

    assert (outcome.moved, outcome.ack_status) == (1, AckStatus.OK)
    assert await agents.take_all() == [2]
    assert await bot.ack(delivery) is AckStatus.STALE


async def test_an_acknowledgement_that_is_not_good_does_not_stop_the_assignment(
    bot: Consumer, agents: Consumer
) -> None:
    await record(bot.store, "SM1", "SM2")
    await bot.store.record([a_message("other", sender="whatsapp:+2", destinations=("bot",))])
    mine, other = await bot.take()
    await bot.ack(mine)

    statuses = [
        (await assign(bot.store, ack=DeliveryKey(destination, token))).ack_status
        for destination, token in [
            ("bot", mine.token),
            ("bot", other.token),
            ("agents", mine.token),
            ("bot", AckToken(99, 1)),
        ]
    ]

    assert statuses == [AckStatus.STALE, AckStatus.UNKNOWN, AckStatus.UNKNOWN, AckStatus.UNKNOWN]
    assert await agents.take_all() == [2]
    assert await bot.ack(other) is AckStatus.OK


async def test_an_assignment_holds_for_its_time(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    outcome = await assign(bot.store, seconds=60)
    until = clock.now + 60 * SECOND
    assert outcome == (0, until, None)
    expected = Assignment("agents", clock.now, until, AssignmentReason.ASSIGNED)
    assert await bot.store.find_assignment(CONVERSATION) == expected

    clock.advance(59)
    await record(bot.store, "SM1")
    clock.advance(1)
    await record(bot.store, "SM2")

    assert await bot.store.find_assignment(CONVERSATION) is None
    assert (await agents.take_all(), await bot.take_all()) == ([1], [2])


async def test_a_repeat_sets_the_time_anew(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    await assign(bot.store, seconds=60)
    clock.advance(50)
    await assign(bot.store, seconds=60)
    clock.advance(50)
    await record(bot.store, "SM1")

    assert await agents.take_all() == [1]


async def test_a_repeat_does_not_shorten_a_back_off(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    await assign(bot.store)
    await record(bot.store, "SM1")
    await agents.nack(await agents.take_one(), 30.0)

    await assign(bot.store)

    assert await agents.next_due_at() == clock.now + 30 * SECOND


async def test_an_end_lets_the_routes_decide_and_moves_nothing(bot: Consumer, agents: Consumer) -> None:
    await assign(bot.store)
    await record(bot.store, "SM1")

    outcome = await assign(bot.store, None)
    await record(bot.store, "SM2")

    assert outcome == (0, None, None)
    assert await bot.store.find_assignment(CONVERSATION) is None
    assert (await agents.take_all(), await bot.take_all()) == ([1], [2])


async def test_an_assignment_is_audited_without_a_whole_number(store: Store) -> None:
    await store.assign(Conversation("C1", "whatsapp:+447700900123"), "agents", ttl_seconds=60, actor="anna")

    (entry,) = await store.list_audit("assign", before=None, limit=10)
    assert entry.actor == "anna"
    assert (entry.details["channel"], entry.details["destination"]) == ("C1", "agents")
    assert "447700900123" not in str(entry.details)


async def test_an_erased_sender_has_no_assignment(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    await assign(bot.store)
    await bot.store.erase_sender(CONVERSATION, limit=10)
    await bot.store.record([a_message("SM1", destinations=("bot",), received_at=clock.now + 1)])

    assert await bot.store.find_assignment(CONVERSATION) is None
    assert await bot.take_all() == [1]
