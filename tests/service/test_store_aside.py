"""The contract of a store: what waits for an operator, and in which order it goes on."""

from __future__ import annotations

import pytest

from service.models import (
    Decision,
    HeldSelection,
    HoldReason,
    MessageFilter,
    MessageKey,
    MessageState,
    QuarantinedRequest,
    Release,
    Settlement,
    SettlementKind,
)
from service.store import postgres, sqlite
from service.store.contract import Store
from tests.service.builders import ManualClock, a_message

TO_DEFAULT = Decision(("default",))


async def hold(store: Store, *sids: str, reason: HoldReason = HoldReason.UNROUTED, channel: str = "C1") -> list[int]:
    recorded = await store.record(
        [a_message(sid, hold_reason=reason, destinations=(), channel=channel, payload=sid.encode()) for sid in sids]
    )
    return [entry.sequence for entry in recorded]


async def deliver_all(store: Store) -> list[int]:
    """Take and acknowledge until nothing is left; return what came, in order."""
    seen = []
    while deliveries := (await store.claim("default", limit=10, max_bytes=10**6, lease_seconds=60)).deliveries:
        seen += [delivery.sequence for delivery in deliveries]
        await store.settle("default", [Settlement(delivery.token, SettlementKind.ACK) for delivery in deliveries])
    return seen


async def test_held_messages_are_found_in_their_order(store: Store) -> None:
    await hold(store, "SM1", "SM2")
    await hold(store, "SM3", channel="C2")
    await hold(store, "SM4", reason=HoldReason.CHANNEL_PAUSED)

    async def find(which: HeldSelection, after: int = 0) -> list[int]:
        return [message.sequence for message in await store.find_held(which, after=after, limit=10)]

    assert await find(HeldSelection()) == [1, 2, 3, 4]
    assert await find(HeldSelection(), after=2) == [3, 4]
    assert await find(HeldSelection(channel_config_id="C2")) == [3]
    assert await find(HeldSelection(hold_reason=HoldReason.CHANNEL_PAUSED)) == [4]
    assert await find(HeldSelection(keys=(MessageKey("C1", "SM2"), MessageKey("C1", "SM1")))) == [1, 2]


async def test_released_messages_come_in_order_and_before_what_is_not_delivered_yet(store: Store) -> None:
    held = await hold(store, "SM1", "SM2")
    await store.record([a_message("SM3"), a_message("SM4")])

    assert len(await store.release([Release(sequence, TO_DEFAULT) for sequence in reversed(held)])) == 2

    assert await deliver_all(store) == [1, 2, 3, 4]


async def test_released_messages_come_after_the_delivery_that_is_out(store: Store) -> None:
    held = await hold(store, "SM1", "SM2")
    await store.record([a_message("SM3"), a_message("SM4")])
    (out,) = (await store.claim("default", limit=1, max_bytes=1, lease_seconds=60)).deliveries

    await store.release([Release(sequence, TO_DEFAULT) for sequence in held])
    assert not (await store.claim("default", limit=1, max_bytes=1, lease_seconds=60)).deliveries
    (status,) = await store.settle("default", [Settlement(out.token, SettlementKind.ACK)])

    assert status.value == "ok"
    assert out.sequence == 3
    assert await deliver_all(store) == [1, 2, 4]


async def test_what_is_released_in_several_goes_comes_in_the_original_order(store: Store) -> None:
    held = await hold(store, *(f"SM{number}" for number in range(6)))
    await store.record([a_message("live")])
    for turn in ([held[2], held[3]], [held[0]], [held[5], held[4]], [held[1]]):
        await store.release([Release(sequence, TO_DEFAULT) for sequence in turn])

    assert await deliver_all(store) == [*held, 7]


async def test_a_second_release_goes_behind_the_one_that_is_out_and_the_first_release(store: Store) -> None:
    held = await hold(store, "SM1", "SM2", "SM3")
    await store.record([a_message("live")])
    await store.release([Release(held[0], TO_DEFAULT), Release(held[1], TO_DEFAULT)])
    (out,) = (await store.claim("default", limit=1, max_bytes=1, lease_seconds=60)).deliveries
    await store.release([Release(held[2], TO_DEFAULT)])
    await store.settle("default", [Settlement(out.token, SettlementKind.NACK, 0.0)])

    assert await deliver_all(store) == [1, 2, 3, 4]


async def test_a_released_message_can_be_the_first_of_its_conversation(store: Store) -> None:
    (held,) = await hold(store, "SM1")
    await store.release([Release(held, TO_DEFAULT)])
    await store.record([a_message("SM2")])

    assert await deliver_all(store) == [1, 2]


async def test_a_hold_does_not_stop_its_conversation(store: Store) -> None:
    await hold(store, "SM1")
    await store.record([a_message("SM2")])

    assert await deliver_all(store) == [2]


async def test_releases_go_on_where_earlier_ones_were_delivered(store: Store) -> None:
    for turn in range(3):
        held = await hold(store, f"SM{turn}a", f"SM{turn}b")
        await store.record([a_message(f"SM{turn}c")])
        await store.release([Release(sequence, TO_DEFAULT) for sequence in held])
        assert await deliver_all(store) == [turn * 3 + 1, turn * 3 + 2, turn * 3 + 3]


async def test_a_release_is_once_and_shows_in_the_life_of_the_message(store: Store) -> None:
    (held,) = await hold(store, "SM1")
    assert len(await store.release([Release(held, TO_DEFAULT)])) == 1
    assert len(await store.release([Release(held, TO_DEFAULT)])) == 0

    assert await deliver_all(store) == [1]
    found = await store.find_message("C1", "SM1")
    assert found is not None
    assert found.state is MessageState.DELIVERED


async def test_a_release_that_finds_no_destination_leaves_it_held(store: Store) -> None:
    (held,) = await hold(store, "SM1", reason=HoldReason.CHANNEL_PAUSED)

    assert len(await store.release([Release(held, Decision((), HoldReason.UNROUTED))])) == 0

    (message,) = await store.find_held(HeldSelection(hold_reason=HoldReason.UNROUTED), after=0, limit=1)
    assert message.sequence == held


async def test_a_discarded_message_stays_in_the_archive_and_goes_nowhere(store: Store) -> None:
    (held,) = await hold(store, "SM1")

    assert (await store.discard([held]), await store.discard([held])) == (1, 0)

    page = await store.list_messages(MessageFilter(state=MessageState.DISCARDED), before=None, limit=10)
    assert [message.sequence for message in page.messages] == [held]
    assert len(await store.release([Release(held, TO_DEFAULT)])) == 0
    assert await deliver_all(store) == []


async def test_clashes_are_kept_once_each_and_counted_all(store: Store) -> None:
    await store.record([a_message("SM1")])
    for number in range(12):
        await store.keep_clash(1, b"%d" % number, b"clash %d" % number)
    await store.keep_clash(1, b"0", b"clash 0")

    assert len(await store.find_clashes(1)) == 10
    (activity,) = (await store.load_summary(most_channels=10)).channels
    assert activity.clashes == 13


def a_request(entry_id: str, *, is_accepted: bool = False, channel: str = "C1") -> QuarantinedRequest:
    return QuarantinedRequest(entry_id, channel, is_accepted, entry_id.encode())


async def test_a_quarantined_request_is_kept_once_until_it_is_settled(store: Store) -> None:
    await store.quarantine([a_request("q1"), a_request("q1"), a_request("q2", channel="C2")])

    assert await store.find_quarantined("q1") == b"q1"
    assert (await store.list_quarantined(None, before=None, limit=10)).payloads == [b"q2", b"q1"]
    assert (await store.list_quarantined("C2", before=None, limit=10)).payloads == [b"q2"]
    assert await store.discard_quarantined(["q1", "q1", "q9"]) == 1
    await store.quarantine([a_request("q1")])
    assert await store.find_quarantined("q1") is None


async def test_a_retry_settles_its_request_in_the_transaction_of_the_message(store: Store) -> None:
    await store.quarantine([a_request("q1")])

    await store.record([a_message("SM1")], quarantine_entry_id="q1")

    assert await store.find_quarantined("q1") is None
    assert (await store.load_summary(most_channels=1)).quarantined == 0


async def test_refused_requests_are_bounded_and_accepted_ones_stay(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite.quarantine, postgres.quarantine):
        monkeypatch.setattr(module, "MOST_REFUSED", 3)
    await store.quarantine([a_request("accepted", is_accepted=True)])
    await store.quarantine([a_request(f"q{number}") for number in range(6)])
    assert (await store.list_quarantined(None, before=None, limit=10)).payloads == [b"q5", b"q4", b"q3", b"accepted"]

    clock.advance(31 * 24 * 3600)
    await store.quarantine([a_request("new")])

    assert (await store.list_quarantined(None, before=None, limit=10)).payloads == [b"new", b"accepted"]


async def test_the_summary_counts_what_came_in_on_each_channel(store: Store, clock: ManualClock) -> None:
    await store.record([a_message("SM1"), a_message("SM1"), a_message("SM2", channel="C2")])
    clock.advance(5)
    await store.record([a_message("SM3")], is_recovered=True)
    await hold(store, "SM4", channel="C3")

    summary = await store.load_summary(most_channels=2)

    assert summary.held == 1
    assert [tuple(channel)[:4] for channel in summary.channels] == [
        ("C1", clock.now, 2, 1),
        ("C2", clock.now - 5_000_000, 1, 0),
    ]
