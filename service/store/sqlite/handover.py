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
from service.store.sqlite import assignments, attempts, audit, lanes, settlements
from service.store.sqlite.lanes import Lane, LaneKey
from service.store.sqlite.writer import Transaction, microseconds

# Where something of the conversation waits or is out, but replays.
SOURCES = f"""
SELECT {lanes.COLUMNS} FROM lane
WHERE channel_config_id = ? AND sender = ? AND destination <> ? AND part >= 0 AND due_at IS NOT NULL
"""

BE_AWAITED = "UPDATE lane SET awaited_by = ? WHERE id = ?"

AWAIT_NONE = """
UPDATE lane SET awaited_by = NULL WHERE channel_config_id = ? AND sender = ? AND awaited_by IS NOT NULL
"""


def assign(
    transaction: Transaction,
    conversation: Conversation,
    destination: str | None,
    *,
    ttl_seconds: float,
    ack: DeliveryKey | None,
    actor: str,
) -> AssignmentOutcome:
    """See `FeedStore.assign`."""
    status = _acknowledge(transaction, conversation, ack) if ack else None
    moved, expires_at = 0, None
    if destination is None:
        assignments.end(transaction, conversation)
    else:
        expires_at = transaction.now + microseconds(ttl_seconds)
        assignments.assign(transaction, conversation, destination, expires_at)
        moved = _move(transaction, conversation, destination)
    audit.write(
        transaction,
        actor,
        "assign",
        channel=conversation.channel_config_id,
        sender=audit.shorten(conversation.sender),
        destination=destination or "",
        messages=moved,
    )
    return AssignmentOutcome(moved, expires_at, status)


def _acknowledge(transaction: Transaction, conversation: Conversation, ack: DeliveryKey) -> AckStatus:
    lane = lanes.load(transaction, ack.token.lane)
    if lane is not None and lane.conversation != conversation:
        return AckStatus.UNKNOWN
    settlement = Settlement(ack.token, SettlementKind.ACK)
    return settlements.settle(transaction, ack.destination, [settlement])[0]


def _move(transaction: Transaction, conversation: Conversation, destination: str) -> int:
    """Bring to a destination what waits in first destinations; return how many messages move, now or later."""
    sources = lanes.read(transaction.connection.execute(SOURCES, (*conversation, destination)))
    moving = [sequence for source in sources for sequence in _take(transaction, source)]
    arriving = [sequence for sequence in sorted(moving) if assignments.redirect(transaction, sequence, destination)]
    target = lanes.find_or_make(transaction, LaneKey(destination, *conversation, lanes.OWN))
    lanes.replace_pending(transaction, target, sorted([*lanes.pending(transaction, target), *arriving]))
    _wait(transaction, target, sources)
    return len(moving)


def _take(transaction: Transaction, source: Lane) -> Sequence[int]:
    """Take out of a lane the messages whose first destination it is, and that are not out."""
    waiting = lanes.pending(transaction, source)
    taken = [sequence for sequence in waiting if _is_first(transaction, sequence, source.destination)]
    if source.part == lanes.OWN:
        kept = set(waiting).difference(taken)
        lanes.replace_pending(transaction, source, [sequence for sequence in waiting if sequence in kept])
    elif taken:
        lanes.drop(transaction, source)
    return taken


def _is_first(transaction: Transaction, sequence: int, destination: str) -> bool:
    return assignments.destinations_of(transaction, sequence)[0] == destination


def _wait(transaction: Transaction, target: Lane, sources: Sequence[Lane]) -> None:
    """Let a lane wait for the leases that are out in first destinations, and no other lane of the conversation."""
    transaction.connection.execute(AWAIT_NONE, target.conversation)
    for source in sources:
        if source.is_out and _is_first(transaction, lanes.head_message(transaction, source), source.destination):
            transaction.connection.execute(BE_AWAITED, (target.id, source.id))
    for lane in (target, *(source for source in sources if source.waits_for is not None)):
        lanes.wait_for_leases(transaction, lane.id)


def look_again(transaction: Transaction, lane: Lane) -> None:
    """Let a lane that waits for leases go on when they are over. One whose time is over ends, as a failed attempt."""
    awaited = lanes.find_awaited(transaction, lane)
    if awaited is not None and awaited.due_at is not None and awaited.due_at <= transaction.now:
        attempts.fail(transaction, awaited, AttemptOutcome.EXPIRED)
    else:
        lanes.wait_for_leases(transaction, lane.id)
