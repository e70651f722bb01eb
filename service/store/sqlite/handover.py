"""Hand-over: a conversation is assigned to a destination, and what waits moves there, in its order.

While a delivery of it is out somewhere else, its new lane waits for that
lease: `waits_for` and `awaited_by` name each other's lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

WAIT_FOR = "UPDATE lane SET waits_for = ?2 WHERE id = ?1"
BE_AWAITED = "UPDATE lane SET awaited_by = ?2 WHERE id = ?1"


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
    if lanes.part_of(transaction, destination, 1) != lanes.OWN:
        for sequence in arriving:
            lanes.append(transaction, LaneKey(destination, *conversation, sequence), sequence)
        return len(moving)
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
    """Let a lane wait for the lease that is out, or that the conversation's last lane waited for."""
    awaited = max(_awaited(transaction, target, sources), key=lambda lane: lane.due_at or 0, default=None)
    for source in sources:
        if source.waits_for is not None:
            transaction.connection.execute(WAIT_FOR, (source.id, None))
            transaction.connection.execute(BE_AWAITED, (source.waits_for, None))
    if awaited is not None:
        transaction.connection.execute(WAIT_FOR, (target.id, awaited.id))
        transaction.connection.execute(BE_AWAITED, (awaited.id, target.id))


def _awaited(transaction: Transaction, target: Lane, sources: Sequence[Lane]) -> Iterator[Lane]:
    for source in sources:
        if source.part == lanes.OWN and source.is_out:
            if _is_first(transaction, lanes.head_message(transaction, source), source.destination):
                yield source
        elif source.waits_for not in {None, target.id}:
            lane = lanes.load(transaction, source.waits_for or 0)
            if lane is not None:
                yield lane


def look_again(transaction: Transaction, lane: Lane) -> None:
    """Let a lane that waits for a lease go on when that is over; else it is due when the lease ends."""
    source = lanes.load(transaction, lane.waits_for or 0)
    if source is None or source.awaited_by != lane.id or not source.is_out:
        transaction.connection.execute(WAIT_FOR, (lane.id, None))
    elif source.due_at is not None and source.due_at > transaction.now:
        transaction.connection.execute("UPDATE lane SET due_at = ? WHERE id = ?", (source.due_at, lane.id))
    else:
        attempts.fail(transaction, source, AttemptOutcome.EXPIRED)
