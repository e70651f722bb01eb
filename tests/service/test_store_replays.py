"""The contract of a store: replays bring stored messages again, in order, at their rate, beside the live ones."""

from __future__ import annotations

from typing import Any

import pytest

from service.models import DeadLetterSelection, HoldReason, Replay, ReplaySelection, SettlementKind
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message
from tests.service.deliveries import deliver_all, settle, take

ALL_OF_C1 = ReplaySelection(channel_config_id="C1")


def a_replay(replay_id: str = "r1", **values: Any) -> Replay:
    return Replay(
        **{
            "replay_id": replay_id,
            "destination": "default",
            "selection": ALL_OF_C1,
            "max_rate": 1000,
            "requested_by": "ann",
            **values,
        }
    )


async def store_messages(store: Store, *sids: str, **values: Any) -> list[int]:
    return [entry.sequence for entry in await store.record([a_message(sid, **values) for sid in sids])]


async def run_replays(store: Store, clock: ManualClock) -> None:
    """Go on until every replay has ended."""
    while (due_at := await store.advance_replays()) is not None:
        clock.now = max(clock.now, due_at)


async def test_acknowledged_messages_come_again_in_order_and_marked(store: Store, clock: ManualClock) -> None:
    sequences = await store_messages(store, "SM1", "SM2", "SM3")
    await deliver_all(store)

    await store.start_replay(a_replay(total=3))
    await run_replays(store, clock)

    again = await deliver_all(store)
    assert [(delivery.sequence, delivery.is_replayed, delivery.attempt) for delivery in again] == [
        (sequence, True, 1) for sequence in sequences
    ]
    replay = await store.find_replay("r1")
    assert replay is not None
    assert (replay.queued, replay.ended_at, replay.is_cancelled) == (3, clock.now, False)


async def test_live_messages_do_not_wait_for_a_replay_nor_it_for_them(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1", "SM2")
    await deliver_all(store)
    await store.start_replay(a_replay())
    await run_replays(store, clock)
    (live,) = await store_messages(store, "SM3")

    out = await take(store)

    assert sorted((delivery.sequence, delivery.is_replayed) for delivery in out) == [(1, True), (live, False)]


async def test_what_is_held_discarded_or_not_settled_yet_is_left_out(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1", "SM2")
    await deliver_all(store)
    await store_messages(store, "SM3", hold_reason=HoldReason.UNROUTED, destinations=())
    (discarded,) = await store_messages(store, "SM4", hold_reason=HoldReason.UNROUTED, destinations=())
    await store.discard([discarded])
    await store_messages(store, "SM5", sender="whatsapp:+2")

    assert await store.count_replay("default", ALL_OF_C1) == 2
    await store.start_replay(a_replay())
    await run_replays(store, clock)

    replay = await store.find_replay("r1")
    assert replay is not None
    assert replay.queued == 2


async def test_a_destination_that_never_had_them_gets_all(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1", "SM2")  # not delivered yet where they went

    assert await store.count_replay("archive", ALL_OF_C1) == 2
    await store.start_replay(a_replay(destination="archive"))
    await run_replays(store, clock)

    assert [delivery.sequence for delivery in await deliver_all(store, "archive")] == [1, 2]
    assert [delivery.sequence for delivery in await deliver_all(store)] == [1, 2]
    assert "archive" in {status.name for status in await store.list_destinations()}


async def test_a_destination_whose_name_is_part_of_another_is_not_that_one(store: Store) -> None:
    await store_messages(store, "SM1", destinations=("default-2",))

    assert await store.count_replay("default", ALL_OF_C1) == 1
    assert await store.count_replay("default-2", ALL_OF_C1) == 0


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (ReplaySelection(channel_config_id="C1"), [1, 2, 4, 5]),
        (ReplaySelection(channel_config_id="C1", sender="whatsapp:+2"), [2, 5]),
        (ReplaySelection(channel_config_id="C1", route_id="orders"), [4]),
        (ReplaySelection(start_at=10), [2, 3, 4, 5]),
        (ReplaySelection(end_at=30), [1, 2, 3]),
        (ReplaySelection(start_at=11, end_at=31), [3, 4]),
        (ReplaySelection(start_at=20, channel_config_id="C1", sender="whatsapp:+2"), [5]),
        (ReplaySelection(channel_config_id="C9"), []),
        (ReplaySelection(start_at=41), []),
        (ReplaySelection(end_at=0), []),
    ],
)
async def test_a_selection_lets_through_what_fits_all_of_it(
    store: Store, clock: ManualClock, selection: ReplaySelection, expected: list[int]
) -> None:
    clock.now = 0
    for sid, values in {
        "SM1": {},
        "SM2": {"sender": "whatsapp:+2"},
        "SM3": {"channel": "C2"},
        "SM4": {"route_id": "orders"},
        "SM5": {"sender": "whatsapp:+2"},
    }.items():
        await store_messages(store, sid, **values)
        clock.now += 10
    await deliver_all(store)

    assert await store.count_replay("default", selection) == len(expected)
    await store.start_replay(a_replay(selection=selection))
    await run_replays(store, clock)

    assert sorted(delivery.sequence for delivery in await deliver_all(store)) == expected


async def test_what_is_stored_after_it_began_is_not_replayed(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1")
    await deliver_all(store)
    await store.start_replay(a_replay())
    await store_messages(store, "SM2")
    await deliver_all(store)
    await run_replays(store, clock)

    assert [delivery.sequence for delivery in await deliver_all(store)] == [1]


async def test_a_replay_keeps_to_its_rate_and_makes_up_for_a_second_at_most(store: Store, clock: ManualClock) -> None:
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number}") for number in range(300)])
    await deliver_all(store)
    await store.start_replay(a_replay(max_rate=20))

    async def queue_until(moment: int) -> int:
        while (due_at := await store.advance_replays()) is not None and due_at <= moment:
            clock.now = due_at
        clock.now = moment
        return len(await deliver_all(store))

    started = clock.now
    assert await queue_until(started + 2_000_000) in range(40, 44)
    clock.advance(60)
    assert await queue_until(clock.now) in range(20, 24)
    assert await queue_until(clock.now + 1_000_000) in range(18, 23)


async def test_a_slow_replay_brings_one_at_a_time_and_ends_with_the_last(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1", "SM2")
    await deliver_all(store)
    await store.start_replay(a_replay(max_rate=1))

    assert await store.advance_replays() == clock.now + 1_000_000
    assert await store.advance_replays() == clock.now + 1_000_000
    assert [delivery.sequence for delivery in await deliver_all(store)] == [1]
    clock.advance(1)
    assert await store.advance_replays() is None
    assert [delivery.sequence for delivery in await deliver_all(store)] == [2]


async def test_a_replay_goes_on_through_long_stretches_that_it_does_not_want(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "first")
    for turn in range(6):
        await store_messages(store, *(f"SM{turn}-{number}" for number in range(200)), channel="C2")
    await store_messages(store, "last")
    await deliver_all(store)

    started = clock.now
    await store.start_replay(a_replay())
    await run_replays(store, clock)

    assert [delivery.sequence for delivery in await deliver_all(store)] == [1, 1202]
    assert clock.now - started < 1_000_000


async def test_several_replays_go_on_side_by_side(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1", "SM2")
    await deliver_all(store)
    for number in range(6):
        await store.start_replay(a_replay(f"r{number}", destination=f"d{number}"))
    await run_replays(store, clock)

    for number in range(6):
        assert len(await deliver_all(store, f"d{number}")) == 2


async def test_a_repeated_start_changes_nothing(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1")
    await deliver_all(store)
    first = await store.start_replay(a_replay(total=1), actor="ann")
    clock.advance(5)

    again = await store.start_replay(a_replay(total=7, max_rate=3, destination="other"), actor="bob")

    assert again == first
    assert [entry.actor for entry in await store.list_audit("replay", before=None, limit=10)] == ["ann"]


async def test_a_cancelled_replay_ends_where_it_is(store: Store, clock: ManualClock) -> None:
    await store_messages(store, *(f"SM{number}" for number in range(50)))
    await deliver_all(store)
    await store.start_replay(a_replay(max_rate=100))
    await store.advance_replays()

    ended = await store.cancel_replay("r1", actor="ann")
    clock.advance(10)
    again = await store.cancel_replay("r1", actor="bob")

    assert ended is not None
    assert (ended.is_cancelled, ended.queued, ended.ended_at) == (True, 10, clock.now - 10_000_000)
    assert again == ended
    assert await store.advance_replays() is None
    assert len(await deliver_all(store)) == 10
    assert await store.cancel_replay("unknown") is None


async def test_a_replay_that_is_over_cannot_be_cancelled(store: Store, clock: ManualClock) -> None:
    await store_messages(store, "SM1")
    await deliver_all(store)
    await store.start_replay(a_replay())
    await run_replays(store, clock)

    ended = await store.cancel_replay("r1")

    assert ended is not None
    assert not ended.is_cancelled


async def test_replays_are_listed_newest_first_page_by_page(store: Store) -> None:
    selection = ReplaySelection(start_at=1, end_at=2, channel_config_id="C1", sender="whatsapp:+1", route_id="orders")
    for number in range(3):
        await store.start_replay(a_replay(f"r{number}", selection=selection))

    page = await store.list_replays(before=None, limit=2)
    rest = await store.list_replays(before=page.next_before, limit=2)

    assert [replay.replay_id for replay in [*page.replays, *rest.replays]] == ["r2", "r1", "r0"]
    assert page.replays[0].selection == selection
    assert rest.next_before is None


async def test_the_audit_tells_who_replayed_what_and_no_whole_number(store: Store) -> None:
    selection = ReplaySelection(channel_config_id="C1", sender="whatsapp:+447700900123", route_id="orders")
    await store.start_replay(a_replay(selection=selection, total=5), actor="ann")

    (entry,) = await store.list_audit("replay", before=None, limit=10)

    assert entry.actor == "ann"
    assert entry.details == {
        "replay": "r1",
        "destination": "default",
        "messages": "5",
        "channel": "C1",
        "sender": "whatsapp:+4477…23",
        "route": "orders",
    }


async def test_a_replayed_message_that_fails_is_dead_lettered_and_redriven_as_a_replay(
    store: Store, clock: ManualClock
) -> None:
    await store_messages(store, "SM1")
    await deliver_all(store)
    await store.start_replay(a_replay())
    await run_replays(store, clock)
    for _ in range(10):
        await settle(store, SettlementKind.NACK, *await take(store))
        clock.advance(120)

    (dead,) = await store.list_dead_letters(DeadLetterSelection(), before=None, limit=10)
    assert dead.is_replayed
    await store.redrive(DeadLetterSelection(), after=0, limit=10)

    assert [delivery.is_replayed for delivery in await deliver_all(store)] == [True]
