"""Hand-over: a conversation is assigned to a destination, and what waits moves there, in its order.

While deliveries of it are out in the destinations that conversed with it, its
new lane waits for those leases: their lanes are `awaited_by` it. What moves is
put in order in one lane, also where the destination is set to unordered.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.models import (
    AckStatus,
    AssignmentOutcome,
    AttemptOutcome,
    Conversation,
    DeliveryKey,
    Settlement,
    SettlementKind,
)
from service.store.postgres import assignments, attempts, audit, conversations, heads, lanes, positions, settlements
from service.store.postgres.attempts import Failure
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import Lane, LaneKey
from service.store.postgres.session import Transaction, microseconds

BE_AWAITED = "UPDATE lane SET awaited_by = $1 WHERE id = ANY ($2::bigint[])"

AWAIT_NONE = """
UPDATE lane SET awaited_by = NULL WHERE channel_config_id = $1 AND sender = $2 AND awaited_by IS NOT NULL
"""


async def assign(
    transaction: Transaction,
    conversation: Conversation,
    destination: str | None,
    *,
    ttl_seconds: float,
    ack: DeliveryKey | None,
    actor: str,
) -> AssignmentOutcome:
    """See `FeedStore.assign`. Has the conversation to itself: nothing of it is stored, claimed or settled meanwhile."""
    await conversations.take(transaction, conversation)
    held = await lanes.lock_conversation(transaction, conversation)
    status = await _acknowledge(transaction, held, ack) if ack else None
    moved, expires_at = 0, None
    if destination is None:
        await assignments.end(transaction, conversation)
    else:
        await load_settings(transaction, [destination])
        expires_at = transaction.now + microseconds(ttl_seconds)
        await assignments.assign(transaction, conversation, destination, expires_at)
        moved = await _move(transaction, conversation, destination)
    await audit.write(
        transaction,
        actor,
        "assign",
        channel=conversation.channel_config_id,
        sender=audit.shorten(conversation.sender),
        destination=destination or "",
        messages=moved,
    )
    return AssignmentOutcome(moved, expires_at, status)


async def _acknowledge(transaction: Transaction, held: Sequence[Lane], ack: DeliveryKey) -> AckStatus:
    """Settle a delivery of the conversation whose lanes are held; what is of another one is unknown here."""
    if ack.token.lane not in {lane.id for lane in held} and await lanes.load(transaction, ack.token.lane):
        return AckStatus.UNKNOWN
    settlement = Settlement(ack.token, SettlementKind.ACK)
    return (await settlements.settle(transaction, ack.destination, [settlement]))[0]


async def _move(transaction: Transaction, conversation: Conversation, destination: str) -> int:
    """Bring to a destination what waits in first destinations; return how many messages move, now or later."""
    key = LaneKey(destination, *conversation, lanes.OWN)
    target = (await lanes.hold(transaction, [key]))[key]
    sources = [
        lane
        for lane in await lanes.lock_conversation(transaction, conversation)
        if lane.destination != destination and lane.part >= lanes.OWN and lane.due_at is not None
    ]
    moving = await _take(transaction, sources)
    arriving = await assignments.redirect(transaction, sorted(moving), destination)
    there = (await positions.pending(transaction, [target])).get(target.id, [])
    await positions.replace_pending(transaction, target, sorted([*there, *arriving]))
    await _wait(transaction, target, sources)
    return len(moving)


async def _take(transaction: Transaction, sources: Sequence[Lane]) -> list[int]:
    """Take out of lanes the messages whose first destination they are, and that are not out."""
    waiting = await positions.pending(transaction, sources)
    destinations = await assignments.destinations_of(
        transaction, [sequence for some in waiting.values() for sequence in some]
    )
    taken: list[int] = []
    for source in sources:
        pending = waiting.get(source.id, [])
        leaving = [sequence for sequence in pending if destinations[sequence][0] == source.destination]
        if not leaving:
            continue
        taken += leaving
        if source.part == lanes.OWN:
            staying = [sequence for sequence in pending if destinations[sequence][0] != source.destination]
            await positions.replace_pending(transaction, source, staying)
        else:
            await lanes.drop(transaction, [source])
    return taken


async def _wait(transaction: Transaction, target: Lane, sources: Sequence[Lane]) -> None:
    """Let a lane wait for the leases that are out in first destinations, and no other lane of the conversation."""
    await transaction.connection.execute(AWAIT_NONE, *target.conversation)
    out = await heads.head_messages(transaction, [source for source in sources if source.is_out])
    destinations = await assignments.destinations_of(transaction, out.values())
    awaited = [
        source.id for source in sources if source.id in out and destinations[out[source.id]][0] == source.destination
    ]
    await transaction.connection.execute(BE_AWAITED, target.id, awaited)
    for lane in (target, *(source for source in sources if source.waits_for is not None)):
        await heads.wait_for_leases(transaction, lane.id)


async def look_again(transaction: Transaction, lane: Lane) -> None:
    """Let a lane that waits for leases go on when they are over. One whose time is over ends, as a failed attempt.

    The lane is locked. A lease that somebody else has locked right now is left for later.
    """
    awaited = await heads.find_awaited(transaction, lane)
    if awaited is None or awaited.due_at is None or awaited.due_at > transaction.now:
        await heads.wait_for_leases(transaction, lane.id)
        return
    held = await lanes.try_to_lock(transaction, [awaited.id])
    if awaited.id in held and held[awaited.id] == awaited:
        await attempts.fail(transaction, [Failure(awaited, AttemptOutcome.EXPIRED)])
