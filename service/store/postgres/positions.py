"""Positions: what waits in a lane, put in another order. Costs as much as is moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

from service.store.postgres import lanes
from service.store.postgres.lanes import Lane, LaneKey
from service.store.postgres.session import Transaction

RANGES = "unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (lane, first, last)"

WITHIN = "d.lane = r.lane AND d.position BETWEEN r.first AND r.last"

FIND = f"SELECT d.lane, d.message, d.attempts FROM {RANGES} JOIN delivery d ON {WITHIN} ORDER BY d.lane, d.position"

FORGET = f"DELETE FROM delivery d USING {RANGES} WHERE {WITHIN}"

# What is out keeps its lease: it only gets another position.
MOVE_LEASED = """
UPDATE delivery d SET position = m.position
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS m (lane, head, position)
WHERE d.lane = m.lane AND d.position = m.head
"""

INSERT = """
INSERT INTO delivery (lane, position, message, attempts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[])
"""

KEEP_ATTEMPTS = """
UPDATE delivery d SET attempts = l.attempts FROM lane l
WHERE l.id = ANY ($1::bigint[]) AND d.lane = l.id AND d.position = l.head
"""

# Where the first one that isn't out is another one now, it has its own attempts, and is due.
REFILL = """
UPDATE lane l SET head = r.head, tail = r.tail, front = r.front,
  due_at = CASE WHEN l.is_leased AND NOT l.has_expired OR NOT r.is_other THEN l.due_at
                WHEN r.head <= r.tail OR l.waits_for IS NOT NULL THEN $6 END,
  attempts = CASE WHEN l.is_leased AND NOT l.has_expired OR NOT r.is_other THEN l.attempts ELSE r.attempts END,
  is_leased = l.is_leased AND (NOT l.has_expired OR NOT r.is_other),
  has_expired = l.has_expired AND NOT r.is_other
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $7::integer[])
  AS r (lane, head, tail, front, is_other, attempts)
WHERE l.id = r.lane
"""


class _Refill(NamedTuple):
    """What becomes of a locked lane: positions `first` to `last` are replaced by messages from `start` on."""

    lane: Lane
    first: int
    last: int
    start: int
    sequences: Sequence[int]
    tail: int
    front: int | None
    is_other: bool
    """Whether another message is the first that isn't out."""
    attempts: Mapping[int, int] = MappingProxyType({})
    """How many failed, of those messages of which any did."""

    @property
    def head(self) -> int:
        return self.start - self.lane.is_out


async def pending(transaction: Transaction, held: Collection[Lane]) -> dict[int, list[int]]:
    """Return the messages that are not out, in order, by the ids of the locked lanes that they are in."""
    messages, _ = await _find(transaction, [(lane, lane.first_pending, lane.tail) for lane in held])
    return messages


async def put_in_front(transaction: Transaction, places: Sequence[tuple[LaneKey, int]]) -> None:
    """Put messages before what is not delivered yet: in order with those that were put there earlier.

    Lanes that aren't there are made. What was the head keeps its failed attempts.
    """
    if not places:
        return
    held = await lanes.hold(transaction, {key for key, _ in places})
    fronts = [(lane, lane.first_pending, _last_in_front(lane)) for lane in held.values()]
    await transaction.connection.execute(KEEP_ATTEMPTS, [lane.id for lane in held.values() if not lane.is_out])
    found, attempts = await _find(transaction, fronts)
    wanted = {
        key: [sequence for _, sequence in group] for key, group in groupby(sorted(places), key=lambda place: place[0])
    }
    refills: list[_Refill] = []
    for lane, first, last in fronts:
        before = found.get(lane.id, [])
        merged = sorted({*wanted[lane.key], *before})
        is_other = merged[:1] != before[:1]
        start = last + 1 - len(merged)
        refills.append(_Refill(lane, first, last, start, merged, lane.tail, last, is_other, attempts.get(lane.id, {})))
    await _refill(transaction, refills)


async def replace_pending(transaction: Transaction, lane: Lane, sequences: Sequence[int]) -> None:
    """Make these the messages of a locked lane that are not out, in this order."""
    before = (await pending(transaction, [lane])).get(lane.id, [])
    if before == sequences:
        return
    first = lane.first_pending
    tail = first + len(sequences) - 1
    is_other = before[:1] != sequences[:1]
    await _refill(transaction, [_Refill(lane, first, lane.tail, first, sequences, tail, None, is_other)])


def _last_in_front(lane: Lane) -> int:
    before_all = lane.first_pending - 1
    return before_all if lane.front is None else min(max(lane.front, before_all), lane.tail)


async def _find(
    transaction: Transaction, ranges: Sequence[tuple[Lane, int, int]]
) -> tuple[dict[int, list[int]], dict[int, dict[int, int]]]:
    """Return the messages of lanes in order, and how many attempts failed of those of which any did."""
    rows: list[Any] = await transaction.connection.fetch(FIND, *_to_arrays(ranges))
    messages: dict[int, list[int]] = defaultdict(list)
    failed: dict[int, dict[int, int]] = defaultdict(dict)
    for lane, message, attempts in rows:
        messages[lane].append(message)
        if attempts:
            failed[lane][message] = attempts
    return messages, failed


async def _refill(transaction: Transaction, refills: Sequence[_Refill]) -> None:
    connection = transaction.connection
    await connection.execute(FORGET, *_to_arrays([(refill.lane, refill.first, refill.last) for refill in refills]))
    if moved := [refill for refill in refills if refill.lane.is_out and refill.head != refill.lane.head]:
        await connection.execute(
            MOVE_LEASED,
            [refill.lane.id for refill in moved],
            [refill.lane.head for refill in moved],
            [refill.head for refill in moved],
        )
    rows = [
        (refill.lane.id, position, sequence, refill.attempts.get(sequence, 0))
        for refill in refills
        for position, sequence in enumerate(refill.sequences, refill.start)
    ]
    await connection.execute(INSERT, *_transposed(rows, 4))
    states = [(each.lane.id, each.head, each.tail, each.front, each.is_other) for each in refills]
    attempts = [sum(each.attempts.get(sequence, 0) for sequence in each.sequences[:1]) for each in refills]
    await connection.execute(REFILL, *_transposed(states, 5), transaction.now, attempts)
    transaction.ready.update(
        refill.lane.destination for refill in refills if refill.is_other and not refill.lane.is_out
    )


def _to_arrays(ranges: Sequence[tuple[Lane, int, int]]) -> list[list[Any]]:
    return _transposed([(lane.id, first, last) for lane, first, last in ranges], 3)


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]
