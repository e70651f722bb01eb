"""The heads of lanes: taken off, and waited for.

A lane may wait for leases elsewhere of its conversation, which was assigned
away from them: where one of these ends, it goes on, or waits for the next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from service.store.postgres.lanes import COLUMNS, OWN, Lane, load
from service.store.postgres.session import Transaction

HEADS = """
SELECT h.lane, d.message FROM unnest($1::bigint[], $2::bigint[]) AS h (lane, position)
JOIN delivery d USING (lane, position)
"""

# A part that was made for it goes with its last message.
# Only what was put in front, and the one behind it, can have been at the head before.
ADVANCE = """
taken AS (
  DELETE FROM delivery d USING unnest($1::bigint[], $2::bigint[]) AS h (lane, position)
  WHERE d.lane = h.lane AND d.position = h.position RETURNING d.lane, d.message
), dropped AS (
  DELETE FROM lane WHERE id = ANY ($3::bigint[])
), moved AS (
  UPDATE lane SET head = head + 1, is_leased = false, has_expired = false, awaited_by = NULL,
                  attempts = CASE WHEN head <= front THEN coalesce(
                    (SELECT d.attempts FROM delivery d WHERE d.lane = lane.id AND d.position = lane.head + 1), 0
                  ) ELSE 0 END,
                  due_at = CASE WHEN tail > head OR waits_for IS NOT NULL THEN $5::bigint END
  WHERE id = ANY ($4::bigint[])
)
"""

TAKE = f"WITH {ADVANCE} SELECT lane, message FROM taken"

# The lease that ends first of those that a lane waits for.
FIND_AWAITED = f"""
SELECT {COLUMNS} FROM lane WHERE channel_config_id = $1 AND sender = $2 AND awaited_by = $3 ORDER BY due_at LIMIT 1
"""

# A lane that has something out itself, a copy, is due when that lease ends.
WAIT = """
UPDATE lane SET waits_for = $2, due_at = CASE WHEN is_leased AND NOT has_expired THEN due_at ELSE $3 END WHERE id = $1
"""
GO_ON = """
UPDATE lane SET waits_for = NULL, due_at = CASE
  WHEN head > tail THEN NULL WHEN is_leased AND NOT has_expired THEN due_at ELSE $2::bigint END
WHERE id = $1 AND waits_for IS NOT NULL
"""


async def head_messages(transaction: Transaction, held: Collection[Lane]) -> dict[int, int]:
    """Return the messages at the heads of lanes that are not empty, by the lanes' ids."""
    return await _fetch_messages(transaction, HEADS, [lane.id for lane in held], [lane.head for lane in held])


async def advance(transaction: Transaction, held: Sequence[Lane]) -> dict[int, int]:
    """Take the heads off, whatever became of them; return their messages, by the lanes' ids.

    Lanes that waited for their leases may go on.
    """
    messages = await _fetch_messages(transaction, TAKE, *advance_arguments(transaction, held))
    await after_advance(transaction, held)
    return messages


def advance_arguments(transaction: Transaction, held: Sequence[Lane]) -> tuple[object, ...]:
    """Return what `ADVANCE` is bound to."""
    over = [lane.id for lane in held if lane.part != OWN and lane.head == lane.tail]
    return (
        [lane.id for lane in held],
        [lane.head for lane in held],
        over,
        [lane.id for lane in held if lane.part == OWN or lane.head != lane.tail],
        transaction.now,
    )


async def after_advance(transaction: Transaction, held: Sequence[Lane]) -> None:
    """Let go on who waited for these heads."""
    transaction.ready.update(lane.destination for lane in held if lane.tail > lane.head)
    for lane in held:
        if lane.awaited_by is not None:
            await wait_for_leases(transaction, lane.awaited_by)


async def _fetch_messages(transaction: Transaction, statement: str, *arguments: object) -> dict[int, int]:
    rows: list[Any] = await transaction.connection.fetch(statement, *arguments)
    return dict(tuple(row) for row in rows)


async def wait_for_leases(transaction: Transaction, lane_id: int) -> None:
    """Let a lane wait for what is out of its conversation elsewhere; it goes on, at once, when nothing is.

    What was going to wait for its back-off, too, doesn't. The lane is locked, and so is the lease that changed.
    """
    lane = await load(transaction, lane_id)
    if lane is None:
        return
    awaited = await find_awaited(transaction, lane)
    if awaited is None:
        await transaction.connection.execute(GO_ON, lane.id, transaction.now)
    else:
        await transaction.connection.execute(WAIT, lane.id, awaited.id, awaited.due_at)
    transaction.ready.add(lane.destination)


async def find_awaited(transaction: Transaction, lane: Lane) -> Lane | None:
    """Return the lane with the lease that ends first of those that a lane waits for."""
    row: Any = await transaction.connection.fetchrow(FIND_AWAITED, *lane.conversation, lane.id)
    return Lane(*row) if row else None
