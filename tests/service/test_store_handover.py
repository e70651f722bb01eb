"""The contract of a store: a conversation that is assigned elsewhere waits there for the leases that are out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from service.models import AckStatus, ClaimedDelivery, Conversation, DeadLetterSelection, SettlementKind
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.consumers import PLAIN, Consumer, configure

CONVERSATION = Conversation("C1", "whatsapp:+1")
EVERYTHING = DeadLetterSelection()


@pytest.fixture
async def bot(store: Store) -> Consumer:
    for name in ("bot", "agents", "shop"):
        await configure(store, destination=name)
    return Consumer(store, "bot")


@pytest.fixture
async def agents(store: Store) -> Consumer:
    return Consumer(store, "agents")


async def record(store: Store, *sids: str, destinations: tuple[str, ...] = ("bot",)) -> None:
    await store.record([a_message(sid, destinations=destinations) for sid in sids])


async def assign(store: Store, destination: str | None = "agents") -> int:
    return (await store.assign(CONVERSATION, destination, ttl_seconds=3600)).moved


async def hand_over(bot: Consumer, *sids: str) -> ClaimedDelivery:
    """Record messages for the bot, let it take the first, and assign the conversation to the agents."""
    await record(bot.store, *sids)
    out = await bot.take_one()
    await assign(bot.store)
    return out


async def test_they_wait_for_the_lease_and_go_on_when_it_is_acknowledged(bot: Consumer, agents: Consumer) -> None:
    out = await hand_over(bot, "SM1", "SM2", "SM3")
    await record(bot.store, "SM4")
    assert not await agents.take()

    assert await bot.ack(out) is AckStatus.OK

    assert await agents.take_all() == [2, 3, 4]
    assert await bot.take_all() == []


@pytest.mark.parametrize("kind", [SettlementKind.NACK, SettlementKind.BREAK, SettlementKind.RETURN])
async def test_what_comes_back_moves_too_and_comes_first(bot: Consumer, agents: Consumer, kind: SettlementKind) -> None:
    out = await hand_over(bot, "SM1", "SM2")

    assert await bot.settle(out, kind, 30.0 if kind is SettlementKind.NACK else None) is AckStatus.OK

    assert await bot.ack(out) is AckStatus.STALE
    assert await bot.take_all() == []
    first = await agents.take_one()
    assert (first.sequence, first.attempt) == (1, 1)
    await agents.ack(first)
    assert await agents.take_all() == [2]


@pytest.mark.parametrize("waiting", [(), ("SM2", "SM3")])
async def test_a_lease_that_runs_out_moves_though_nobody_consumes_the_old_destination(
    bot: Consumer, agents: Consumer, clock: ManualClock, waiting: tuple[str, ...]
) -> None:
    out = await hand_over(bot, "SM1", *waiting)
    assert await agents.next_due_at() == out.deadline_at

    clock.now = out.deadline_at

    assert await agents.take_all() == [1, 2, 3][: 1 + len(waiting)]


async def test_a_lease_that_runs_out_moves_when_its_old_destination_looks_first(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    await hand_over(bot, "SM1", "SM2")
    clock.advance(61)

    assert not await bot.take()
    assert await agents.take_all() == [1, 2]


async def test_a_late_acknowledgement_is_good_until_the_new_destination_looks(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    clock.advance(61)

    assert await bot.ack(out) is AckStatus.OK
    assert await agents.take_all() == [2]


async def test_an_extended_lease_is_waited_for_longer(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    clock.advance(50)
    await bot.settle(out, SettlementKind.EXTEND, 60.0)
    clock.advance(59)
    assert not await agents.take()

    clock.advance(1)

    assert await agents.take_all() == [1, 2]


async def test_a_lease_that_was_made_shorter_is_waited_for_no_longer_than_that(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    await bot.settle(out, SettlementKind.EXTEND, 5.0)

    assert await agents.next_due_at() == clock.now + 5_000_000


async def test_the_last_failed_attempt_is_a_dead_letter_where_it_failed(bot: Consumer, agents: Consumer) -> None:
    await configure(bot.store, replace(PLAIN, max_attempts=1), destination="bot")
    out = await hand_over(bot, "SM1", "SM2")

    await bot.nack(out)

    (letter,) = await bot.store.list_dead_letters(EVERYTHING, before=None, limit=10)
    assert (letter.destination, letter.sequence) == ("bot", 1)
    assert await agents.take_all() == [2]


async def test_who_waits_is_woken_up(bot: Consumer) -> None:
    heard: list[str] = []

    class Listener:
        def on_ready(self, destinations: Collection[str]) -> None:
            heard.extend(destinations)

        def on_arrivals(self, counts: Mapping[str, int]) -> None: ...

        def on_dead_letters(self, counts: Mapping[str, int]) -> None: ...

        def on_directory_change(self) -> None: ...

    await record(bot.store, "SM1")
    out = await bot.take_one()
    bot.store.listen(Listener())
    await assign(bot.store)
    assert "agents" in heard  # so that they know when the lease ends

    heard.clear()
    await bot.nack(out)

    assert "agents" in heard


async def test_a_copy_that_is_out_at_the_target_keeps_its_lease(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    await record(bot.store, "SM1", destinations=("bot", "agents"))
    await record(bot.store, "SM2")
    copy = await agents.take_one()
    out = await bot.take_one()
    await assign(bot.store)

    await bot.ack(out)

    assert not await agents.take()
    clock.advance(59)
    assert await agents.settle(copy, SettlementKind.EXTEND, 60.0) is AckStatus.OK
    assert await agents.ack(copy) is AckStatus.OK
    assert await agents.take_all() == [2]


async def test_a_copy_that_is_out_elsewhere_is_not_waited_for(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", destinations=("bot", "archive"))
    await Consumer(bot.store, "archive").take_one()

    await assign(bot.store)

    assert await agents.take_all() == [1]


async def test_a_message_that_comes_back_where_it_has_a_copy_is_not_doubled(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", destinations=("bot", "agents"))
    out = await bot.take_one()
    await assign(bot.store)

    await bot.nack(out)

    assert await agents.take_all() == [1]
    found = await bot.store.find_message("C1", "SM1")
    assert found is not None
    assert found.decision.destinations == ("agents",)


@pytest.mark.parametrize("waiting", [(), ("SM2", "SM3")])
async def test_what_is_assigned_back_comes_back_behind_the_lease(
    bot: Consumer, agents: Consumer, waiting: tuple[str, ...]
) -> None:
    out = await hand_over(bot, "SM1", *waiting)
    assert await assign(bot.store, "bot") == len(waiting)

    await bot.nack(out, 0.0)

    assert await agents.take_all() == []
    assert await bot.take_all() == [1, 2, 3][: 1 + len(waiting)]


async def test_what_is_assigned_on_waits_for_the_first_lease(bot: Consumer, agents: Consumer) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    await assign(bot.store, "shop")
    shop = Consumer(bot.store, "shop")
    assert not await shop.take()

    await bot.nack(out)

    assert await agents.take_all() == []
    assert await shop.take_all() == [1, 2]


async def test_what_is_assigned_away_and_back_and_away_again_waits_once(bot: Consumer, agents: Consumer) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    await assign(bot.store, "bot")
    await assign(bot.store, "agents")
    await assign(bot.store, "agents")
    assert not await agents.take()

    await bot.ack(out)

    assert await agents.take_all() == [2]
    await record(bot.store, "SM3")
    assert await agents.take_all() == [3]


async def test_every_lease_that_is_out_is_waited_for(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    shop = Consumer(bot.store, "shop")
    await record(bot.store, "SM1", "SM2")
    await record(bot.store, "SM3", "SM4", destinations=("shop",))
    at_the_bot, in_the_shop = await bot.take_one(), await shop.take_one(lease_seconds=90.0)
    await assign(bot.store)

    await bot.ack(at_the_bot)
    assert await agents.next_due_at() == in_the_shop.deadline_at
    await shop.nack(in_the_shop)

    assert await shop.take_all() == []
    assert await agents.take_all() == [3, 2, 4]


async def test_what_expires_of_several_leases_waits_for_the_others(
    bot: Consumer, agents: Consumer, clock: ManualClock
) -> None:
    shop = Consumer(bot.store, "shop")
    await record(bot.store, "SM1")
    await record(bot.store, "SM2", destinations=("shop",))
    await bot.take_one()
    in_the_shop = await shop.take_one(lease_seconds=90.0)
    await assign(bot.store)
    clock.advance(60)
    assert await agents.next_due_at() == in_the_shop.deadline_at

    clock.advance(30)

    assert await agents.take_all() == [1, 2]


async def test_an_end_lets_what_waits_go_on_after_the_lease(bot: Consumer, agents: Consumer) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    await assign(bot.store, None)
    assert not await agents.take()

    await bot.ack(out)

    assert await agents.take_all() == [2]


async def test_an_erased_conversation_is_not_waited_for(bot: Consumer, agents: Consumer, clock: ManualClock) -> None:
    out = await hand_over(bot, "SM1", "SM2")
    await bot.store.erase_sender(CONVERSATION, limit=10)
    await bot.store.record([a_message("SM3", destinations=("agents",), received_at=clock.now + 1)])

    assert await bot.ack(out) is AckStatus.STALE
    assert await agents.take_all() == [3]


async def test_a_redrive_into_the_old_destination_does_not_come_to_the_new_one(bot: Consumer, agents: Consumer) -> None:
    await record(bot.store, "SM1", "SM2")
    for _ in range(3):
        await bot.nack(await bot.take_one(), 0.0)
    out = await bot.take_one()
    await assign(bot.store)

    await bot.store.redrive(EVERYTHING, after=0, limit=10)
    await bot.ack(out)

    assert await bot.take_all() == [1]
