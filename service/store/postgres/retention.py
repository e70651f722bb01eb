"""The SQL of retention: walks what was settled, oldest first, and removes what nothing keeps any more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from service.models import DestinationSettings
from service.store.postgres.removal import remove_messages
from service.store.postgres.session import Transaction, microseconds

# Of several processes, each walks others.
WALKS = "SELECT name, retention, pruned_until, pruned_message FROM destination ORDER BY name FOR UPDATE SKIP LOCKED"

DUE = """
SELECT settled_at, message FROM settled
WHERE destination = $1 AND (settled_at, message) > ($2, $3) AND settled_at <= $4
ORDER BY settled_at, message LIMIT $5
"""

MOVE_ON = "UPDATE destination SET pruned_until = $1, pruned_message = $2 WHERE name = $3"

# What is queued again right now isn't removed: when it is settled, it is looked at again.
LOCK = "SELECT sequence FROM message WHERE sequence = ANY ($1::bigint[]) ORDER BY sequence FOR UPDATE SKIP LOCKED"

# Every destination that it went to, also by replay, has settled it long enough ago; nothing is left of it, neither a
# dead letter nor a replay that still brings it. There is no index from messages to deliveries: so one look at the
# replays of the conversations serves all of them.
OVER = """
WITH candidate AS (
  SELECT sequence, channel_config_id, sender, destinations, hold_reason FROM message WHERE sequence = ANY ($1::bigint[])
)
SELECT m.sequence, m.channel_config_id, m.sender FROM candidate m
WHERE m.hold_reason IS NULL
  AND NOT EXISTS (
    SELECT FROM unnest(m.destinations) AS n (name)
    WHERE NOT EXISTS (SELECT FROM settled s WHERE s.message = m.sequence AND s.destination = n.name)
  )
  AND NOT EXISTS (
    SELECT FROM settled s JOIN destination d ON d.name = s.destination
    WHERE s.message = m.sequence AND s.settled_at > $2 - d.retention * 1000000
  )
  AND NOT EXISTS (SELECT FROM dead_letter x WHERE x.message = m.sequence)
  AND m.sequence NOT IN (
    SELECT d.message FROM (SELECT DISTINCT channel_config_id, sender FROM candidate) c
    JOIN lane l USING (channel_config_id, sender) JOIN delivery d ON d.lane = l.id
    WHERE l.due_at IS NOT NULL
  )
"""

DISCARDED = """
SELECT sequence, channel_config_id, sender FROM message WHERE discarded_at <= $1
ORDER BY discarded_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""

EXPIRED_ASSIGNMENTS = """
DELETE FROM assignment WHERE (channel_config_id, sender) IN (
  SELECT channel_config_id, sender FROM assignment WHERE expires_at <= $1
  ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""

# One that somebody has locked is about to be used again.
EMPTY_LANES = """
DELETE FROM lane WHERE id IN (
  SELECT l.id FROM unnest($1::text[], $2::text[]) AS c (channel_config_id, sender)
  JOIN lane l USING (channel_config_id, sender)
  WHERE l.due_at IS NULL AND l.waits_for IS NULL
    AND NOT EXISTS (SELECT FROM message m WHERE m.channel_config_id = l.channel_config_id AND m.sender = l.sender)
  FOR UPDATE OF l SKIP LOCKED
)
"""


async def prune(transaction: Transaction, limit: int) -> int:
    """See `RetentionStore.prune`."""
    looked_at = await _prune_discarded(transaction, limit)
    walks: list[Any] = await transaction.connection.fetch(WALKS)
    for name, retention, *position in walks:
        if looked_at < limit:
            until = transaction.now - microseconds(retention)
            looked_at += await _walk(transaction, name, until, position, limit - looked_at)
    done = await transaction.connection.execute(EXPIRED_ASSIGNMENTS, transaction.now, limit)
    return looked_at + int(done.removeprefix("DELETE "))


async def _walk(transaction: Transaction, destination: str, until: int, position: Collection[int], limit: int) -> int:
    """Look at what a destination settled after `position`, up to a time, and note how far that went."""
    connection = transaction.connection
    rows: list[Any] = await connection.fetch(DUE, destination, *position, until, limit)
    if rows:
        locked: list[Any] = await connection.fetch(LOCK, [message for _, message in rows])
        over: list[Any] = await connection.fetch(OVER, [sequence for (sequence,) in locked], transaction.now)
        await _remove(transaction, over)
        await connection.execute(MOVE_ON, *rows[-1], destination)
    return len(rows)


async def _prune_discarded(transaction: Transaction, limit: int) -> int:
    until = transaction.now - microseconds(DestinationSettings().retention_seconds)
    rows: list[Any] = await transaction.connection.fetch(DISCARDED, until, limit)
    await _remove(transaction, rows)
    return len(rows)


async def _remove(transaction: Transaction, rows: Collection[Any]) -> None:
    """Remove locked messages, and the lanes of conversations of which nothing is left."""
    if not rows:
        return
    await remove_messages(transaction, [sequence for sequence, _, _ in rows])
    met = sorted({(channel_config_id, sender) for _, channel_config_id, sender in rows})
    channels, senders = [channel for channel, _ in met], [sender for _, sender in met]
    await transaction.connection.execute(EMPTY_LANES, channels, senders)
