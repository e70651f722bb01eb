"""The feed's SQL: claims and settlements on lanes, which never look at what waits behind a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from service.models import (
    AckStatus,
    AckToken,
    Claimed,
    ClaimedDelivery,
    DestinationStatus,
    Settlement,
    SettlementKind,
)
from service.store.sqlite.writer import Transaction

# The heads that may be claimed, those that have been ready longest first.
READY_HEADS = """
SELECT l.id, l.attempts, l.claims, d.message, m.payload, m.route_id
FROM lane l JOIN delivery d ON d.lane = l.id AND d.position = l.head JOIN message m ON m.sequence = d.message
WHERE l.destination = ? AND l.due_at <= ? ORDER BY l.due_at LIMIT ?
"""

LEASE = "UPDATE lane SET attempts = attempts + 1, claims = claims + 1, is_leased = 1, due_at = ? WHERE id = ?"

NEXT_DUE = "SELECT due_at FROM lane WHERE destination = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT 1"

LANE = """
SELECT destination, head, tail, attempts, claims, is_leased FROM lane WHERE id = ?
"""

ADVANCE = """
UPDATE lane SET head = head + 1, attempts = 0, is_leased = 0, due_at = CASE WHEN tail > head THEN ? END WHERE id = ?
"""

DELETE_DELIVERY = "DELETE FROM delivery WHERE lane = ? AND position = ? RETURNING message"

# A replay may bring a message to a destination that has acknowledged it before: the last one counts.
ACKNOWLEDGE = "REPLACE INTO acknowledgement VALUES (?, ?, ?, ?)"

GIVE_BACK = "UPDATE lane SET is_leased = 0, due_at = ? WHERE id = ?"

EXTEND = "UPDATE lane SET due_at = ? WHERE id = ?"

# Heads alone: the oldest message of a lane is its head.
BACKLOG = """
SELECT n.name, coalesce(b.backlog, 0), coalesce(b.leased, 0), m.committed_at
FROM (SELECT name FROM destination UNION SELECT destination FROM lane WHERE due_at IS NOT NULL) n
LEFT JOIN (
  SELECT l.destination, sum(l.tail - l.head + 1) AS backlog, sum(l.is_leased AND l.due_at > :now) AS leased,
         min(d.message) AS oldest
  FROM lane l JOIN delivery d ON d.lane = l.id AND d.position = l.head
  WHERE l.due_at IS NOT NULL GROUP BY l.destination
) b ON b.destination = n.name
LEFT JOIN message m ON m.sequence = b.oldest
ORDER BY n.name
"""


def claim(transaction: Transaction, destination: str, limit: int, max_bytes: int, lease_seconds: float) -> Claimed:
    """See `FeedStore.claim`."""
    connection = transaction.connection
    deadline_at = transaction.now + _microseconds(lease_seconds)
    claimed: list[ClaimedDelivery] = []
    size = 0
    for lane, attempts, claims, message, payload, route_id in connection.execute(
        READY_HEADS, (destination, transaction.now, limit)
    ):
        if claimed and size + len(payload) > max_bytes:
            break
        size += len(payload)
        token = AckToken(lane, claims + 1)
        claimed.append(ClaimedDelivery(token, payload, attempts + 1, deadline_at, message, route_id))
    connection.executemany(LEASE, [(deadline_at, delivery.token.lane) for delivery in claimed])
    return Claimed(claimed, connection.execute(NEXT_DUE, (destination,)).get)


def settle(transaction: Transaction, destination: str, settlements: Sequence[Settlement]) -> list[AckStatus]:
    """See `FeedStore.settle`."""
    return [_settle_one(transaction, destination, settlement) for settlement in settlements]


def _settle_one(transaction: Transaction, destination: str, settlement: Settlement) -> AckStatus:
    token = settlement.token
    connection = transaction.connection
    lane = connection.execute(LANE, (token.lane,)).fetchone()
    if lane is None:
        return AckStatus.UNKNOWN
    status = _judge(token, destination, lane)
    if status is not AckStatus.OK:
        return status
    due_at = transaction.now + _microseconds(settlement.seconds)
    if settlement.kind is SettlementKind.EXTEND:
        connection.execute(EXTEND, (due_at, token.lane))
        return status
    if settlement.kind is SettlementKind.NACK:
        connection.execute(GIVE_BACK, (due_at, token.lane))
    else:
        _acknowledge(transaction, token.lane, destination, head=lane[1], attempts=lane[3])
    if settlement.kind is SettlementKind.NACK or lane[2] > lane[1]:
        transaction.ready.add(destination)
    return status


def _judge(token: AckToken, destination: str, lane: tuple[Any, ...]) -> AckStatus:
    home, _, _, _, claims, is_leased = lane
    if home != destination or not 1 <= token.claim <= claims:
        return AckStatus.UNKNOWN
    return AckStatus.OK if token.claim == claims and is_leased else AckStatus.STALE


def _acknowledge(transaction: Transaction, lane: int, destination: str, *, head: int, attempts: int) -> None:
    connection = transaction.connection
    connection.execute(ADVANCE, (transaction.now, lane))
    message = connection.execute(DELETE_DELIVERY, (lane, head)).get
    connection.execute(ACKNOWLEDGE, (message, destination, attempts, transaction.now))


def list_destinations(connection: apsw.Connection, now: int) -> list[DestinationStatus]:
    """See `FeedStore.list_destinations`."""
    return [DestinationStatus(*row) for row in connection.execute(BACKLOG, {"now": now})]


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
