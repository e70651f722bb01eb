"""Settlements: what consumers say of the deliveries that they have, each fenced to its claim."""

from __future__ import annotations

from collections.abc import Sequence

from service.models import AckStatus, AttemptOutcome, Settlement, SettlementKind
from service.store.sqlite import assignments, attempts, lanes
from service.store.sqlite.lanes import Lane
from service.store.sqlite.writer import Transaction, microseconds

# A replay may bring a message to a destination that has acknowledged it before: the last one counts.
ACKNOWLEDGE = """
REPLACE INTO settled (message, destination, attempts, settled_at, delivered_at) VALUES (?, ?, ?, ?, ?)
"""

OUTCOMES = {SettlementKind.NACK: AttemptOutcome.NACKED, SettlementKind.BREAK: AttemptOutcome.STREAM_BROKEN}


def settle(transaction: Transaction, destination: str, settlements: Sequence[Settlement]) -> list[AckStatus]:
    """See `FeedStore.settle`."""
    return [_settle(transaction, destination, settlement) for settlement in settlements]


def _settle(transaction: Transaction, destination: str, settlement: Settlement) -> AckStatus:
    token, kind, seconds = settlement
    lane = lanes.load(transaction, token.lane)
    if lane is None:
        return AckStatus.STALE if lanes.was_ever(transaction, token.lane) else AckStatus.UNKNOWN
    if lane.destination != destination or not 1 <= token.claim <= lane.claims:
        return AckStatus.UNKNOWN
    is_late = lane.has_expired or (lane.due_at or 0) <= transaction.now
    if token.claim != lane.claims or not lane.is_leased or (is_late and kind is not SettlementKind.ACK):
        return AckStatus.STALE
    if kind is SettlementKind.ACK:
        _acknowledge(transaction, lane)
    elif kind is SettlementKind.EXTEND:
        _extend(transaction, lane, seconds or 0.0)
    elif kind is SettlementKind.RETURN:
        _return(transaction, lane)
    else:
        attempts.fail(transaction, lane, OUTCOMES[kind], seconds)
    return AckStatus.OK


def _acknowledge(transaction: Transaction, lane: Lane) -> None:
    message = lanes.advance(transaction, lane)
    delivered = lane.attempts + (not lane.has_expired)
    transaction.connection.execute(ACKNOWLEDGE, (message, lane.destination, delivered, transaction.now, lane.leased_at))


def _extend(transaction: Transaction, lane: Lane, seconds: float) -> None:
    due_at = transaction.now + microseconds(seconds)
    transaction.connection.execute("UPDATE lane SET due_at = ? WHERE id = ?", (due_at, lane.id))
    if lane.awaited_by is not None:
        lanes.wait_for_leases(transaction, lane.awaited_by)


def _return(transaction: Transaction, lane: Lane) -> None:
    if lane.awaited_by is not None:
        assignments.move_head(transaction, lane)
        return
    transaction.connection.execute("UPDATE lane SET is_leased = 0, due_at = ? WHERE id = ?", (transaction.now, lane.id))
    transaction.ready.add(lane.destination)
