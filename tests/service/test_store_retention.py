"""The contract of a store: what is settled goes after its retention, and nothing else ever does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from service.models import (
    Conversation,
    DeadLetterSelection,
    Decision,
    DestinationSettings,
    HoldReason,
    Release,
    Replay,
    ReplaySelection,
    SettlementKind,
)
from service.store.contract import Store
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock, a_message
from tests.service.deliveries import deliver_all, settle, take

DAY = 86_400


async def prune_all(store: Store, *, limit: int = 100) -> int:
    """Prune until there is nothing more to do; return how often that took."""
    turns = 0
    while await store.prune(limit=limit):
        turns += 1
        assert turns < 1000
    return turns


async def stored(store: Store, *sids: str, channel: str = "C1") -> list[str]:
    """Which of these messages are still there."""
    return [sid for sid in sids if await store.find_message(channel, sid)]


async def set_retention(store: Store, destination: str, days: float) -> None:
    def change(settings: DestinationSettings) -> DestinationSettings:
        return replace(settings, retention_seconds=days * DAY)

    await store.update_destination(destination, change)


async def give_up(store: Store, clock: ManualClock) -> None:
    """Let every attempt at what is ready fail."""
    for _ in range(10):
        await settle(store, SettlementKind.NACK, *await take(store))
        clock.advance(120)


async def test_a_message_goes_thirty_days_after_it_was_acknowledged(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    clock.advance(40 * DAY)
    await deliver_all(store)

    clock.advance(30 * DAY - 1)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]

    clock.advance(1)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_what_waits_or_is_held_or_dead_lettered_never_goes(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("dead")])
    await give_up(store, clock)
    await store.record([a_message("waiting")])
    await store.record([a_message("held", hold_reason=HoldReason.UNROUTED, destinations=())])
    clock.advance(4000 * DAY)

    await prune_all(store)

    assert await stored(store, "dead", "waiting", "held") == ["dead", "waiting", "held"]


async def test_a_discarded_dead_letter_goes_after_the_retention_from_then(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    await give_up(store, clock)
    clock.advance(50 * DAY)
    await store.discard_dead_letters(DeadLetterSelection(), after=0, limit=10)

    clock.advance(29 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]
    clock.advance(DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_a_message_that_was_discarded_while_held_goes_after_thirty_days(store: Store, clock: ManualClock) -> None:
    (held,) = await store.record([a_message("SM1", hold_reason=HoldReason.UNROUTED, destinations=())])
    clock.advance(50 * DAY)
    await store.discard([held.sequence])

    clock.advance(30 * DAY - 1)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]
    clock.advance(1)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_a_released_message_goes_when_it_was_delivered_long_enough_ago(store: Store, clock: ManualClock) -> None:
    (held,) = await store.record([a_message("SM1", hold_reason=HoldReason.UNROUTED, destinations=())])
    await store.release([Release(held.sequence, Decision(("elsewhere",)))])
    clock.advance(100 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]

    await deliver_all(store, "elsewhere")
    clock.advance(30 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


@pytest.mark.parametrize("first", ["long", "short"])
async def test_of_several_destinations_the_one_that_keeps_longest_counts(
    store: Store, clock: ManualClock, first: str
) -> None:
    await set_retention(store, "long", 60)
    await set_retention(store, "short", 1)
    await store.record([a_message("SM1", destinations=("long", "short"))])
    await deliver_all(store, first)
    clock.advance(10 * DAY)
    await prune_all(store)
    await deliver_all(store, {"long": "short", "short": "long"}[first])

    clock.advance(49 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]
    clock.advance(11 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_one_destination_that_has_not_settled_it_keeps_it(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1", destinations=("default", "slow"))])
    await deliver_all(store)
    clock.advance(40 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]

    await deliver_all(store, "slow")
    clock.advance(30 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_a_longer_retention_holds_for_what_is_there(store: Store, clock: ManualClock) -> None:
    await set_retention(store, "default", 10)
    await store.record([a_message("SM1", destinations=("default", "slow"))])
    await deliver_all(store)
    clock.advance(20 * DAY)
    await prune_all(store)  # looked at, and kept by the other one
    await set_retention(store, "default", 100)
    await set_retention(store, "slow", 1)
    await deliver_all(store, "slow")

    clock.advance(79 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]
    clock.advance(DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_a_shorter_retention_holds_for_what_is_there(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    await deliver_all(store)
    clock.advance(2 * DAY)
    await prune_all(store)
    await set_retention(store, "default", 1)

    await prune_all(store)

    assert await stored(store, "SM1") == []


async def test_a_replay_that_waits_keeps_its_message_and_its_end_counts(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1"), a_message("SM2")])
    await deliver_all(store)
    clock.advance(20 * DAY)
    await store.start_replay(Replay("r1", "archive", ReplaySelection(channel_config_id="C1"), 1000, "ann"))
    await store.advance_replays()
    clock.advance(40 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1", "SM2") == ["SM1", "SM2"]

    assert len(await deliver_all(store, "archive")) == 2
    clock.advance(29 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1", "SM2") == ["SM1", "SM2"]
    clock.advance(DAY)
    await prune_all(store)
    assert await stored(store, "SM1", "SM2") == []


@pytest.mark.parametrize("end", ["discarded", "redriven"])
async def test_a_replay_that_was_given_up_keeps_its_message_until_it_is_settled(
    store: Store, clock: ManualClock, end: str
) -> None:
    await store.record([a_message("SM1")])
    await deliver_all(store)
    await store.start_replay(Replay("r1", "default", ReplaySelection(channel_config_id="C1"), 1000, "ann"))
    await store.advance_replays()
    await give_up(store, clock)
    clock.advance(100 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == ["SM1"]

    if end == "discarded":
        await store.discard_dead_letters(DeadLetterSelection(), after=0, limit=10)
    else:
        await store.redrive(DeadLetterSelection(), after=0, limit=10)
        await deliver_all(store)
    clock.advance(30 * DAY)
    await prune_all(store)
    assert await stored(store, "SM1") == []


async def test_many_that_were_settled_at_once_go_in_small_batches(store: Store, clock: ManualClock) -> None:
    sids = [f"SM{number}" for number in range(25)]
    await store.record([a_message(sid, sender=f"whatsapp:+{sid}", destinations=("default", "slow")) for sid in sids])
    await deliver_all(store)
    await store.record([a_message("last")])
    await deliver_all(store)
    clock.advance(30 * DAY)

    # None of the 25 can go yet: the batches pass over them all the same.
    assert await prune_all(store, limit=4) == 7
    assert await stored(store, "last", "SM0") == ["SM0"]

    await deliver_all(store, "slow")
    clock.advance(30 * DAY)
    assert await prune_all(store, limit=4) == 7
    assert await stored(store, *sids) == []


async def test_nothing_is_looked_at_twice(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1", destinations=("default", "slow"))])
    await deliver_all(store)
    clock.advance(30 * DAY)

    assert [await store.prune(limit=10), await store.prune(limit=10)] == [1, 0]


async def test_with_a_message_goes_all_that_belongs_to_it_and_its_id_is_free(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    await store.keep_clash(1, b"fingerprint", b"clash")
    await settle(store, SettlementKind.NACK, *await take(store))
    clock.advance(60)
    await deliver_all(store)
    clock.advance(30 * DAY)
    await prune_all(store)

    (again,) = await store.record([a_message("SM1")])

    assert not again.is_duplicate
    assert again.sequence > 1
    assert await store.find_clashes(1) == []
    assert [(delivery.sequence, delivery.attempt) for delivery in await deliver_all(store)] == [(again.sequence, 1)]


async def test_an_old_token_of_a_pruned_conversation_changes_nothing(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1")])
    (old,) = await deliver_all(store)
    clock.advance(30 * DAY)
    await prune_all(store)
    await store.record([a_message("SM2")])
    (out,) = await take(store)

    with pytest.raises(AssertionError):
        await settle(store, SettlementKind.ACK, old)

    assert out.token != old.token
    await settle(store, SettlementKind.ACK, out)


async def test_an_assignment_that_is_over_is_forgotten_and_others_stay(store: Store, clock: ManualClock) -> None:
    short, long = Conversation("C1", "whatsapp:+1"), Conversation("C1", "whatsapp:+2")
    await store.assign(short, "agents", ttl_seconds=60)
    await store.assign(long, "agents", ttl_seconds=600)
    clock.advance(61)

    assert [await store.prune(limit=10), await store.prune(limit=10)] == [1, 0]

    assert await store.find_assignment(short) is None
    assert await store.find_assignment(long) is not None


async def test_no_row_is_left_of_a_conversation_whose_messages_are_gone(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    await store.record([a_message("SM1"), a_message("SM2", sender="whatsapp:+2")])
    await store.keep_clash(1, b"fingerprint", b"clash")
    await settle(store, SettlementKind.NACK, *await take(store))
    clock.advance(60)
    await deliver_all(store)
    clock.advance(30 * DAY)
    await store.record([a_message("SM3", sender="whatsapp:+2")])
    await prune_all(store)
    await store.close()

    connection = apsw.Connection(str(tmp_path / "mo.db"))
    tables = ("message", "lane", "delivery", "settled", "attempt", "clash")
    rows = {table: connection.execute(f"SELECT count(*) FROM {table}").get for table in tables}
    connection.close()

    # What is left is of the conversation that goes on.
    assert rows == {"message": 1, "lane": 1, "delivery": 1, "settled": 0, "attempt": 0, "clash": 0}


async def test_a_message_stays_while_its_live_delivery_waits_where_a_replay_of_it_was_acknowledged(
    store: Store, clock: ManualClock
) -> None:
    await store.record([a_message("SM1", destinations=("bot",))])
    await store.start_replay(Replay("r1", "agents", ReplaySelection(channel_config_id="C1"), 100, "anna"))
    await store.advance_replays()
    (replayed,) = await take(store, "agents")
    await store.assign(Conversation("C1", "whatsapp:+1"), "agents", ttl_seconds=60)
    await settle(store, SettlementKind.ACK, replayed, destination="agents")
    clock.advance(31 * 86_400)

    while await store.prune(limit=100):
        pass

    assert [delivery.is_replayed for delivery in await take(store, "agents")] == [False]
