"""Claims: the heads of lanes that are due, leased. Never looks at what waits behind a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service.models import AckToken, AttemptOutcome, Claimed, ClaimedDelivery, DestinationSettings
from service.store.sqlite import attempts, handover, lanes
from service.store.sqlite.destinations import find_settings
from service.store.sqlite.lanes import Lane
from service.store.sqlite.writer import Transaction, microseconds

# The heads that are due, those that have been for longest first. A lane that waits for a lease may have none.
DUE_HEADS = """
SELECT l.id, l.attempts, l.claims, l.is_leased AND NOT l.has_expired, l.waits_for, l.part,
       d.message, m.payload, m.route_id
FROM lane l
LEFT JOIN delivery d ON d.lane = l.id AND d.position = l.head LEFT JOIN message m ON m.sequence = d.message
WHERE l.destination = ? AND l.due_at <= ? ORDER BY l.due_at LIMIT ?
"""

# A claim isn't synced. One that a power failure takes back must not give its number to another: so it has the time's.
LEASE = """
UPDATE lane SET claims = ?, is_leased = 1, has_expired = 0, leased_at = ?, due_at = ? WHERE id = ?
"""

NEXT_DUE = "SELECT due_at FROM lane WHERE destination = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT 1"

MOST_LOOKS = 4
"""How often a claim looks again after it has cleared what was in its way."""


class Look(NamedTuple):
    """What a look at the due heads found: those to lease, and the lanes where something is in the way."""

    deliveries: list[ClaimedDelivery]
    lapsed: list[int]
    waiting: list[int]


def claim(
    transaction: Transaction, destination: str, limit: int, max_bytes: int, lease_seconds: float | None
) -> Claimed:
    """See `FeedStore.claim`."""
    connection = transaction.connection
    if lease_seconds is None:
        lease_seconds = (find_settings(transaction, destination) or DestinationSettings()).ack_deadline_seconds
    deadline_at = transaction.now + microseconds(lease_seconds)
    claimed: list[ClaimedDelivery] = []
    for _ in range(MOST_LOOKS):
        look = _look(transaction, destination, limit, max_bytes, deadline_at, is_first=not claimed)
        connection.executemany(
            LEASE,
            [(each.token.claim, transaction.now, deadline_at, each.token.lane) for each in look.deliveries],
        )
        claimed += look.deliveries
        limit -= len(look.deliveries)
        max_bytes -= sum(len(delivery.payload) for delivery in look.deliveries)
        if not _clear(transaction, look) or limit <= 0 or (claimed and max_bytes <= 0):
            break
    return Claimed(claimed, connection.execute(NEXT_DUE, (destination,)).get)


def _look(
    transaction: Transaction, destination: str, limit: int, max_bytes: int, deadline_at: int, *, is_first: bool
) -> Look:
    look = Look([], [], [])
    size = 0
    for lane, failed, claims, is_lapsed, waits_for, part, message, payload, route_id in transaction.connection.execute(
        DUE_HEADS, (destination, transaction.now, limit)
    ):
        if is_lapsed:
            look.lapsed.append(lane)
        elif waits_for is not None:
            look.waiting.append(lane)
        elif size + len(payload) > max_bytes and not is_first:
            break
        else:
            is_first = False
            size += len(payload)
            token = AckToken(lane, max(claims + 1, transaction.now))
            is_replayed = part == lanes.REPLAYED
            look.deliveries.append(
                ClaimedDelivery(token, payload, failed + 1, deadline_at, message, route_id, is_replayed)
            )
    return look


def _clear(transaction: Transaction, look: Look) -> bool:
    """End the attempts whose lease is over, and look at those that wait for a lease; return whether there were any."""
    for lane in _load(transaction, look.lapsed):
        attempts.fail(transaction, lane, AttemptOutcome.EXPIRED)
    for lane in _load(transaction, look.waiting):
        handover.look_again(transaction, lane)
    return bool(look.lapsed or look.waiting)


def _load(transaction: Transaction, ids: Sequence[int]) -> Iterator[Lane]:
    return (lane for lane_id in ids if (lane := lanes.load(transaction, lane_id)) is not None)
