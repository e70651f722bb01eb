"""A store with something of everything in it, and all that the contract tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.models import (
    ClaimedDelivery,
    Conversation,
    Credentials,
    DeadLetterSelection,
    Decision,
    DeliveryKey,
    HeldSelection,
    HoldReason,
    MessageFilter,
    PasswordUse,
    QuarantinedRequest,
    Release,
    Replay,
    ReplaySelection,
    Route,
    SecretKind,
    SignatureCheck,
    SignatureCount,
    SignatureResult,
    SignatureSecret,
    StoredMessage,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_channel, a_message
from tests.service.consumers import PLAIN, Consumer, configure, give_up

ROTATED = Credentials("user", "$new", "$old", 2**60, revision=2)
SECRET = SignatureSecret("one", SecretKind.AUTH_TOKEN, 17, b"gAAA-sealed==")
ERASED = Conversation("C1", "whatsapp:+666")
MOVED = Conversation("C1", "whatsapp:+7")
STAYING = Conversation("C1", "whatsapp:+8")
SENDERS = ("whatsapp:+1", "whatsapp:+2", MOVED.sender, STAYING.sender)


@dataclass(frozen=True)
class Leased:
    """What consumers have when the store is closed."""

    by_bot: ClaimedDelivery
    unordered: ClaimedDelivery


async def fill(store: Store, clock: ManualClock) -> Leased:
    """Do everything that leaves a row in some table."""
    await _fill_directory(store, clock)
    await _fill_aside(store)
    await _fill_operations(store, clock)
    return await _fill_feed(store, clock)


async def _fill_directory(store: Store, clock: ManualClock) -> None:
    channel = await store.create_channel(
        a_channel(
            credentials=ROTATED,
            affinity_seconds=600,
            signature_check=SignatureCheck.OBSERVE,
            signature_secrets=(SECRET,),
            infer_message_type=True,
        )
    )
    await store.create_channel(a_channel("C2", destination=None))
    await store.create_channel(a_channel("gone"))
    await store.replace_routes("C1", [Route("r1", ("bot", "archive"), body_pattern="é\0")], expected=0)
    await store.replace_routes("C1", [Route("r2", ("bot",), is_reply=True)], expected=1, actor="ann")
    await store.delete_channel("gone", expected=None)
    await store.note_password_uses([PasswordUse("C1", channel.credentials.password_id, clock.now - 5)])
    await store.add_signature_counts([SignatureCount("C1", SignatureResult.MISMATCH, 3, clock.now)])


async def _fill_aside(store: Store) -> None:
    held = await store.record(
        [a_message(f"H{number}", destinations=(), hold_reason=HoldReason.UNROUTED) for number in range(4)]
    )
    await store.discard([held[0].sequence], actor="ann")
    await store.release([Release(held[1].sequence, Decision(("bot",), route_id="r1", route_revision=1))])
    await store.keep_clash(held[2].sequence, b"\x00\xff", b"another\0payload")
    await store.quarantine(
        [
            QuarantinedRequest("q1", "C1", is_accepted=True, payload=b"kept \0 raw"),
            QuarantinedRequest("q2", "C2", is_accepted=False, payload=b"refused"),
            QuarantinedRequest("q3", "C1", is_accepted=True, payload=b"settled"),
        ]
    )
    await store.discard_quarantined(["q3"])


async def _fill_operations(store: Store, clock: ManualClock) -> None:
    await configure(store, replace(PLAIN, is_ordered=False), destination="unordered")
    await give_up(store, "D1", "D2", destination="dying")
    await store.record([a_message("E1", sender=ERASED.sender)])
    await store.erase_sender(ERASED, limit=10, actor="ann")
    clock.advance(1)


async def _fill_feed(store: Store, clock: ManualClock) -> Leased:
    bot, unordered = Consumer(store, "bot"), Consumer(store, "unordered")
    await configure(store, destination="bot")
    for number in range(6):
        sender = SENDERS[number % 2]
        await store.record(
            [a_message(f"M{number}", sender=sender, destinations=("bot", "archive"), payload=b"\0%d" % number)],
            is_recovered=number == 5,
        )
        clock.advance(1)
    await store.record([a_message(f"U{number}", destinations=("unordered",)) for number in range(3)])
    for delivery in await bot.take():
        await bot.nack(delivery)
    clock.advance(2)
    (first, second) = await bot.take()
    await bot.ack(first)
    await store.record([a_message(f"A{number}", sender=MOVED.sender, destinations=("bot",)) for number in range(2)])
    (out,) = await bot.take(limit=1)
    await store.assign(MOVED, "agents", ttl_seconds=3600, ack=DeliveryKey("bot", out.token))
    affine = a_message("S1", sender=STAYING.sender, destinations=("agents",), affinity_seconds=600)
    await store.record([affine])
    selection = ReplaySelection(channel_config_id="C1", sender="whatsapp:+2")
    await store.start_replay(Replay("p1", "archive", selection, 1000, "ann", total=3))
    await store.advance_replays()
    await store.start_replay(Replay("p2", "bot", ReplaySelection(channel_config_id="C1"), 1, "ann", total=9))
    return Leased(second, (await unordered.take(limit=1))[0])


async def read_all(store: Store) -> dict[str, Any]:
    """Return what the contract tells, of everything."""
    channels = await store.list_channels(after="", limit=100)
    page = await store.list_messages(MessageFilter(), before=None, limit=1000)
    every = await store.list_destinations()
    return {
        "changes": await store.find_changes(None, limit=100),
        "routes": {each.channel_config_id: await _routes(store, each.channel_config_id) for each in channels},
        "uses": [await store.find_password_uses(each.channel_config_id) for each in channels],
        "signatures": [await store.find_signature_counts(each.channel_config_id) for each in channels],
        "messages": [_with_lists(message) for message in page.messages],
        "held": await store.find_held(HeldSelection(), after=0, limit=100),
        "clashes": [await store.find_clashes(message.sequence) for message in page.messages],
        "quarantine": await store.list_quarantined(None, before=None, limit=100),
        "quarantined after": await store.find_quarantined_after("C1", after=0, limit=100),
        "audit": await store.list_audit(None, before=None, limit=1000),
        "summary": await store.load_summary(most_channels=100),
        "destinations": every,
        "dead letters": await store.list_dead_letters(DeadLetterSelection(), before=None, limit=100),
        "replays": await store.list_replays(before=None, limit=100),
        "assignments": [await store.find_assignment(Conversation("C1", sender)) for sender in SENDERS],
    }


def _with_lists(message: StoredMessage) -> StoredMessage:
    """What is empty is empty, whatever holds nothing."""
    deliveries = [each._replace(failed_attempts=[*each.failed_attempts]) for each in message.deliveries]
    return message._replace(deliveries=deliveries)


async def _routes(store: Store, channel_config_id: str) -> Sequence[Any]:
    return await store.list_route_revisions(channel_config_id, before=None, limit=100)
