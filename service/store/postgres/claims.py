"""Claims: the heads of lanes that are due, leased. Never looks at what waits behind one, and never waits for a lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from service.models import AckToken, AttemptOutcome, Claimed, ClaimedDelivery, DestinationSettings
from service.store.postgres import attempts, handover, lanes
from service.store.postgres.attempts import Failure
from service.store.postgres.session import NOW, UNTOLD, Transaction, microseconds

MOST_AT_ONCE = 1000
"""How many heads a look takes, at the most."""

# The heads that are due and that nobody else has, those that have been for longest first, are leased until their bytes
# are too many; and when the next one is due. Those with something in the way aren't: their lease has run out, or they
# wait for one. A lane that waits for a lease may have no head.
# What has come into a lane since the statement began is locked as it is now, but its delivery can't be seen yet: then
# it is leased without a message, which is read again.
# A claim is not synced, so a failover or a crash may take it back while its consumer still has the delivery. Its number
# follows from the time, so that none is given twice: else the old consumer could settle what a new one has.
# The second limit tells the planner, and so do the laterals, that few rows are wanted of however many there are.
LEASE = f"""
WITH clock AS MATERIALIZED (
  SELECT CASE WHEN $2::bigint = {UNTOLD} THEN {NOW} ELSE $2 END AS now
), term AS (
  SELECT now, now + coalesce(
    $5::bigint, (SELECT round(ack_deadline * 1000000) FROM destination WHERE name = $1), $6::bigint
  )::bigint AS deadline_at
  FROM clock
), due AS MATERIALIZED (
  SELECT * FROM (
    SELECT id, head, part, attempts, claims, due_at, is_leased AND NOT has_expired AS is_lapsed,
           waits_for IS NOT NULL AS is_waiting
    FROM lane WHERE destination = $1 AND due_at <= (SELECT now FROM clock)
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
  ) AS locked LIMIT {MOST_AT_ONCE}
), head AS MATERIALIZED (
  SELECT due.*, m.sequence, m.payload, m.route_id,
         sum(octet_length(m.payload)) FILTER (WHERE NOT (is_lapsed OR is_waiting)) OVER in_order AS size,
         count(*) FILTER (WHERE NOT (is_lapsed OR is_waiting)) OVER in_order AS number
  FROM due LEFT JOIN LATERAL (
    SELECT m.sequence, m.payload, m.route_id FROM delivery d JOIN message m ON m.sequence = d.message
    WHERE d.lane = due.id AND d.position = due.head LIMIT 1
  ) m ON true
  WINDOW in_order AS (ORDER BY due_at, id)
), leased AS (
  UPDATE lane SET claims = greatest(claims + 1, (SELECT now FROM term)), is_leased = true, has_expired = false,
                  leased_at = (SELECT now FROM term), due_at = (SELECT deadline_at FROM term)
  WHERE id = ANY (ARRAY(
    SELECT id FROM head
    WHERE NOT (is_lapsed OR is_waiting) AND (coalesce(size, 0) <= $4 OR (number = 1 AND $7::boolean))
  ))
  RETURNING id
), next AS (
  SELECT least(
    (SELECT due_at FROM lane WHERE destination = $1 AND due_at IS NOT NULL AND id <> ALL (ARRAY(SELECT id FROM leased))
     ORDER BY due_at, id LIMIT 1),
    (SELECT deadline_at FROM term WHERE EXISTS (SELECT FROM leased))
  ) AS due_at
)
SELECT term.now, next.due_at, head.id, leased.id IS NOT NULL, head.is_lapsed, head.is_waiting,
       greatest(head.claims + 1, term.now), CASE WHEN leased.id IS NOT NULL THEN head.payload END,
       head.attempts + 1, term.deadline_at, head.sequence, head.route_id, head.part = {lanes.REPLAYED}
FROM term CROSS JOIN next LEFT JOIN head ON true LEFT JOIN leased ON leased.id = head.id
ORDER BY head.due_at, head.id
"""

READ_AGAIN = """
SELECT l.id, m.payload, m.sequence, m.route_id FROM lane l
JOIN delivery d ON d.lane = l.id AND d.position = l.head JOIN message m ON m.sequence = d.message
WHERE l.id = ANY ($1::bigint[])
"""

NEXT_DUE = "SELECT due_at FROM lane WHERE destination = $1 AND due_at IS NOT NULL ORDER BY due_at, id LIMIT 1"

DEFAULT_LEASE = microseconds(DestinationSettings().ack_deadline_seconds)

MOST_LOOKS = 4
"""How often a claim looks again after it has cleared what was in its way."""


class _Look(NamedTuple):
    """What a look at the due heads found: those that it has leased, and the lanes where something is in the way."""

    deliveries: list[ClaimedDelivery]
    lapsed: list[int]
    waiting: list[int]
    next_due_at: int | None


async def claim(
    transaction: Transaction, destination: str, limit: int, max_bytes: int, lease_seconds: float | None
) -> Claimed:
    """See `FeedStore.claim`."""
    lease = None if lease_seconds is None else microseconds(lease_seconds)
    claimed: list[ClaimedDelivery] = []
    for _ in range(MOST_LOOKS):
        look = await _look(transaction, destination, limit, max_bytes, lease, is_first=not claimed)
        claimed += look.deliveries
        limit -= len(look.deliveries)
        max_bytes -= sum(len(delivery.payload) for delivery in look.deliveries)
        if not look.lapsed and not look.waiting:
            return Claimed(claimed, look.next_due_at)
        await _clear(transaction, look)
        if limit <= 0 or (claimed and max_bytes <= 0):
            break
    return Claimed(claimed, await transaction.connection.fetchval(NEXT_DUE, destination))


async def _look(
    transaction: Transaction, destination: str, limit: int, max_bytes: int, lease: int | None, *, is_first: bool
) -> _Look:
    rows: list[Any] = await transaction.connection.fetch(
        LEASE, destination, transaction.now, limit, max_bytes, lease, DEFAULT_LEASE, is_first
    )
    transaction.now, next_due_at, *_ = rows[0]
    look = _Look([], [], [], next_due_at)
    unread: list[int] = []
    for _, _, lane, is_leased, is_lapsed, is_waiting, claim_number, *rest in rows:
        if is_lapsed:
            look.lapsed.append(lane)
        elif is_waiting:
            look.waiting.append(lane)
        elif is_leased:
            look.deliveries.append(ClaimedDelivery(AckToken(lane, claim_number), *rest))
            if rest[0] is None:
                unread.append(lane)
    return look._replace(deliveries=await _read_again(transaction, look.deliveries, unread)) if unread else look


async def _read_again(
    transaction: Transaction, deliveries: Sequence[ClaimedDelivery], unread: Collection[int]
) -> list[ClaimedDelivery]:
    rows: list[Any] = await transaction.connection.fetch(READ_AGAIN, unread)
    found = {lane: (payload, sequence, route_id) for lane, payload, sequence, route_id in rows}

    def complete(delivery: ClaimedDelivery) -> ClaimedDelivery:
        if delivery.token.lane not in found:
            return delivery
        payload, sequence, route_id = found[delivery.token.lane]
        return delivery._replace(payload=payload, sequence=sequence, route_id=route_id)

    return [complete(delivery) for delivery in deliveries]


async def _clear(transaction: Transaction, look: _Look) -> None:
    """End the attempts whose lease is over, and look at those that wait for a lease.

    What takes a lane that somebody else has locked right now is left to the next claim.
    """
    lapsed = await lanes.try_to_lock(transaction, look.lapsed)
    awaited_by = {lane.awaited_by for lane in lapsed.values() if lane.awaited_by is not None}
    free = {None, *await lanes.try_to_lock(transaction, awaited_by)}
    failures = [Failure(lane, AttemptOutcome.EXPIRED) for lane in lapsed.values() if lane.awaited_by in free]
    await attempts.fail(transaction, failures)
    for lane_id in look.waiting:
        if (lane := await lanes.load(transaction, lane_id)) is not None:
            await handover.look_again(transaction, lane)
