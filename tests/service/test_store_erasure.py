"""The contract of a store: an erased sender is gone from everywhere, and stays gone."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import apsw

from service.models import (
    Conversation,
    DeadLetterSelection,
    ErasedCounts,
    HeldSelection,
    HoldReason,
    MessageFilter,
    QuarantinedRequest,
    Replay,
    ReplaySelection,
    SettlementKind,
)
from service.store.contract import Store
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock, a_message
from tests.service.deliveries import deliver_all, settle, take

ANN = Conversation("C1", "whatsapp:+447700900123")
BEN = Conversation("C1", "whatsapp:+447700900456")


async def record(store: Store, whose: Conversation, *sids: str, **values: object) -> list[int]:
    channel, sender = whose
    messages = [a_message(sid, channel=channel, sender=sender, **values) for sid in sids]  # type: ignore[arg-type]
    return [entry.sequence for entry in await store.record(messages)]


async def messages_of(store: Store, whose: Conversation) -> list[int]:
    page = await store.list_messages(MessageFilter(*whose), before=None, limit=100)
    return [message.sequence for message in page.messages]


async def test_everything_of_the_sender_goes_and_is_counted_and_nothing_of_others(
    store: Store, clock: ManualClock
) -> None:
    (dead,) = await record(store, ANN, "dead")
    for _ in range(10):
        await settle(store, SettlementKind.NACK, *await take(store))
        clock.advance(120)
    await record(store, ANN, "done")
    await deliver_all(store)
    await store.keep_clash(dead, b"fingerprint", b"clash")
    await record(store, ANN, "held", hold_reason=HoldReason.UNROUTED, destinations=())
    await record(store, ANN, "waiting", "waiting too", destinations=("default", "archive"))
    await store.assign(ANN, "agents", ttl_seconds=600)
    await record(store, BEN, "his")
    elsewhere = Conversation("C2", ANN.sender)
    await record(store, elsewhere, "hers elsewhere")

    counts = await store.erase_sender(ANN, limit=100)

    assert counts == ErasedCounts(messages=5, deliveries=4, dead_letters=1, held=1, clashes=1, is_complete=True)
    assert await messages_of(store, ANN) == []
    assert await store.find_held(HeldSelection(), after=0, limit=10) == []
    assert await store.list_dead_letters(DeadLetterSelection(), before=None, limit=10) == []
    assert await store.find_clashes(dead) == []
    assert await store.find_assignment(ANN) is None
    assert len(await messages_of(store, BEN)) == len(await messages_of(store, elsewhere)) == 1
    assert len(await deliver_all(store)) == 2
    assert await deliver_all(store, "agents") == await deliver_all(store, "archive") == []


async def test_what_was_received_before_and_comes_late_is_dropped_and_audited(store: Store, clock: ManualClock) -> None:
    await record(store, ANN, "SM1")
    await store.erase_sender(ANN, limit=10)
    erased_at = clock.now
    clock.advance(60)

    late = a_message("SM2", sender=ANN.sender, received_at=erased_at)
    his = a_message("SM3", sender=BEN.sender, received_at=erased_at)
    new = a_message("SM4", sender=ANN.sender, received_at=erased_at + 1)
    outcomes = await store.record([late, late, his, new], is_recovered=True)

    assert [(entry.sequence > 0, entry.is_erased) for entry in outcomes] == [
        (False, True),
        (False, True),
        (True, False),
        (True, False),
    ]
    assert await store.find_message("C1", "SM2") is None
    (entry,) = await store.list_audit("erased-drop", before=None, limit=10)
    assert (entry.actor, entry.details) == ("gateway", {"channel": "C1", "messages": "2"})
    (activity,) = (await store.load_summary(most_channels=1)).channels
    assert (activity.messages, activity.recovered) == (3, 2)


async def test_a_request_that_was_received_before_and_comes_late_is_dropped_and_audited(
    store: Store, clock: ManualClock
) -> None:
    erased_at = clock.now
    await store.erase_sender(ANN, limit=10)
    clock.advance(60)
    senders = [BEN.sender, ANN.sender]
    late, late_too, elsewhere, new, unknown = (
        QuarantinedRequest("late", "C1", True, b"1", senders, erased_at),
        QuarantinedRequest("late too", "C1", False, b"2", senders, erased_at - 1),
        QuarantinedRequest("elsewhere", "C2", True, b"3", senders, erased_at),
        QuarantinedRequest("new", "C1", True, b"4", senders, erased_at + 1),
        QuarantinedRequest("unknown", "C1", True, b"5", (), erased_at),
    )

    assert await store.quarantine([late, late_too, elsewhere]) == 2
    assert await store.quarantine([new, unknown]) == 0
    assert await store.quarantine([late]) == 1

    kept = await store.list_quarantined(None, before=None, limit=10)
    assert kept.payloads == [b"5", b"4", b"3"]
    again, both = await store.list_audit("erased-drop", before=None, limit=10)
    assert (both.actor, both.details) == ("gateway", {"channel": "C1", "requests": "2"})
    assert again.details == {"channel": "C1", "requests": "1"}


async def test_an_erasure_is_of_one_sender_in_one_channel(store: Store, clock: ManualClock) -> None:
    await store.erase_sender(Conversation("C1", "1:+447700900123"), limit=10)

    for other in (Conversation("C2", "1:+447700900123"), Conversation("C11", ":+447700900123")):
        assert await record(store, other, "SM1", received_at=clock.now) != [0]


async def test_an_erasure_holds_for_what_is_recorded_in_its_own_transaction(store: Store, clock: ManualClock) -> None:
    """The first intake keeps a writer busy that there is one of, so that the others become one transaction."""
    busy = store.record([a_message(f"busy{number}") for number in range(2000)])
    before, late = (store.record([a_message(sid, sender=ANN.sender, received_at=clock.now)]) for sid in ("SM1", "SM2"))

    _, first, counts, second = await asyncio.gather(busy, before, store.erase_sender(ANN, limit=10), late)

    assert counts.messages == [first[0].is_erased, second[0].is_erased].count(False)
    assert [await store.find_message(ANN.channel_config_id, sid) for sid in ("SM1", "SM2")] == [None, None]


async def test_a_sender_of_whom_nothing_is_stored_yet_can_be_erased(store: Store, clock: ManualClock) -> None:
    assert await store.erase_sender(ANN, limit=10, actor="ann") == ErasedCounts(is_complete=True)

    (outcome,) = await store.record([a_message("SM1", sender=ANN.sender, received_at=clock.now)])

    assert outcome.is_erased
    assert [entry.actor for entry in await store.list_audit("erase", before=None, limit=10)] == ["ann"]


async def test_a_repeat_erases_what_came_since(store: Store, clock: ManualClock) -> None:
    await record(store, ANN, "SM1")
    await store.erase_sender(ANN, limit=10)
    clock.advance(60)
    await record(store, ANN, "SM2", received_at=clock.now)

    assert (await store.erase_sender(ANN, limit=10)).messages == 1
    (outcome,) = await store.record([a_message("SM3", sender=ANN.sender, received_at=clock.now)])

    assert outcome.is_erased


async def test_a_sender_with_much_is_erased_in_bounded_steps(store: Store) -> None:
    await record(store, ANN, *(f"SM{number}" for number in range(10)))

    steps = [await store.erase_sender(ANN, limit=4) for _ in range(3)]

    assert [(step.messages, step.deliveries, step.is_complete) for step in steps] == [
        (4, 10, False),
        (4, 0, False),
        (2, 0, True),
    ]


async def test_between_two_steps_nothing_of_the_sender_is_delivered_and_new_messages_go_too(
    store: Store, clock: ManualClock
) -> None:
    await record(store, ANN, "SM1", "SM2", "SM3")
    await store.erase_sender(ANN, limit=1)
    assert await deliver_all(store) == []
    await record(store, ANN, "SM4", received_at=clock.now + 1)

    assert (await store.erase_sender(ANN, limit=10)).messages == 3

    assert await deliver_all(store) == []


async def test_a_delivery_that_is_out_is_stale_after_the_erasure(store: Store, clock: ManualClock) -> None:
    await record(store, ANN, "SM1", "SM2")
    (out,) = await take(store)
    await store.erase_sender(ANN, limit=10)
    clock.advance(1)
    await record(store, ANN, "SM3", received_at=clock.now)

    (again,) = await take(store)

    assert again.token.lane != out.token.lane
    await settle(store, SettlementKind.ACK, again)


async def test_a_replay_of_the_conversation_ends_and_forgets_the_number(store: Store, clock: ManualClock) -> None:
    await record(store, ANN, *(f"SM{number}" for number in range(30)))
    await deliver_all(store)
    selections = {"hers": ReplaySelection(None, None, *ANN), "his": ReplaySelection(None, None, *BEN)}
    for replay_id, selection in selections.items():
        await store.start_replay(Replay(replay_id, "default", selection, 100, "ann"))
    await store.advance_replays()

    counts = await store.erase_sender(ANN, limit=100)

    assert (counts.messages, counts.deliveries) == (30, 10)
    hers, his = await store.find_replay("hers"), await store.find_replay("his")
    assert hers is not None
    assert his is not None
    assert (hers.ended_at, hers.selection.sender) == (clock.now, "whatsapp:+4477…23")
    assert his.selection == selections["his"]


async def test_the_audit_tells_who_erased_whom_shortened_and_how_much(store: Store) -> None:
    await record(store, ANN, "SM1", "SM2")
    await store.erase_sender(ANN, limit=10, actor="ann")

    (entry,) = await store.list_audit("erase", before=None, limit=10)

    assert entry.actor == "ann"
    assert entry.details["sender"] == "whatsapp:+4477…23"
    assert (entry.details["messages"], entry.details["deliveries"]) == ("2", "2")


async def test_a_repeat_that_finds_nothing_is_not_audited(store: Store) -> None:
    for _ in range(3):
        await store.erase_sender(ANN, limit=10, actor="ann")
    assert len(await store.list_audit("erase", before=None, limit=10)) == 1

    await record(store, ANN, "SM1", received_at=2**60)
    await store.erase_sender(ANN, limit=10, actor="ann")

    assert len(await store.list_audit("erase", before=None, limit=10)) == 2


async def test_an_erasure_outlives_the_process(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    await store.erase_sender(ANN, limit=10)
    await store.close()

    store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    (outcome,) = await store.record([a_message("SM1", sender=ANN.sender, received_at=clock.now)])
    await store.close()

    assert outcome.is_erased


async def test_quarantined_requests_are_paged_by_channel(store: Store) -> None:
    await store.quarantine(
        [QuarantinedRequest(f"q{number}", f"C{number % 2}", True, b"%d" % number) for number in range(6)]
    )
    await store.discard_quarantined(["q2"])

    first = await store.find_quarantined_after("C0", after=0, limit=1)
    rest = await store.find_quarantined_after("C0", after=first[-1].number, limit=10)

    assert [(entry.entry_id, entry.payload) for entry in [*first, *rest]] == [("q0", b"0"), ("q4", b"4")]


async def test_what_was_erased_cannot_be_read_in_the_files(tmp_path: Path, clock: ManualClock) -> None:
    """Many conversations that grow by turns, so that pages split and rows move from page to page."""
    store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    senders = [f"whatsapp:+4477009{number:05d}" for number in range(400)]
    for turn in range(25):
        intake = [
            a_message(f"{turn}-{sender}", sender=sender, payload=f"words of {sender[9:]} ".encode() * 20)
            for sender in random.Random(turn).sample(senders, len(senders))
        ]
        await store.record(intake)
        if turn % 2:
            await deliver_all(store)
    victim = senders[123]
    number = victim[9:].encode()
    stored = await store.find_message("C1", f"0-{victim}")
    assert stored is not None
    await store.keep_clash(stored.sequence, b"fingerprint", stored.payload)
    assert files_with(number, tmp_path)

    await store.erase_sender(Conversation("C1", victim), limit=1000)

    assert files_with(number, tmp_path) == []
    await store.close()
    assert files_with(number, tmp_path) == []


async def test_a_reader_in_the_middle_of_a_look_only_delays_that(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    await record(store, ANN, "SM1", payload=b"the planted words")
    reader = apsw.Connection(str(tmp_path / "mo.db"), flags=apsw.SQLITE_OPEN_READONLY)
    look = reader.execute("SELECT payload FROM message UNION ALL SELECT x''")
    next(look)
    await store.erase_sender(ANN, limit=10)
    assert files_with(b"the planted words", tmp_path)

    look.close()
    reader.close()
    await record(store, BEN, "SM2")

    assert files_with(b"the planted words", tmp_path) == []
    await store.close()


def files_with(text: bytes, folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if text in path.read_bytes()]
