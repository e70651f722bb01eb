"""The destinations' SQL: their settings, and what waits in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from service.models import DestinationSettings, DestinationStatus
from service.store.audit_details import find_differences
from service.store.counting import Count, Counted, describe
from service.store.postgres import audit
from service.store.postgres.session import Transaction

SETTINGS = "ack_deadline, max_attempts, min_backoff, max_backoff, backoff_jitter, is_ordered, retention"

FIND = f"SELECT name, {SETTINGS} FROM destination WHERE name = ANY ($1::text[])"

# In order, so that two who make the same ones wait for each other in one direction.
MAKE = "INSERT INTO destination (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING"

LOCK = f"SELECT {SETTINGS} FROM destination WHERE name = $1 FOR NO KEY UPDATE"

# What a longer retention keeps from now on may have been looked at before: start again.
REPLACE = f"""
UPDATE destination SET ({SETTINGS}) = ($1, $2, $3, $4, $5, $6, $7),
  pruned_until = CASE WHEN retention = $7 THEN pruned_until ELSE 0 END
WHERE name = $8
"""

LIST = f"SELECT name, {SETTINGS} FROM destination"

# Heads alone: the oldest message of a lane is its head. Nothing waits in a destination that has no row.
COUNT = """
SELECT n.name, coalesce(b.conversations, 0), coalesce(b.backlog, 0), coalesce(b.leased, 0), m.committed_at,
       coalesce(x.dead_letters, 0)
FROM destination n
LEFT JOIN (
  SELECT l.destination, count(*) AS conversations, sum(l.tail - l.head + 1)::bigint AS backlog,
         min(d.message) AS oldest, count(*) FILTER (WHERE l.is_leased AND NOT l.has_expired AND l.due_at > $1) AS leased
  FROM lane l JOIN delivery d ON d.lane = l.id AND d.position = l.head
  WHERE l.due_at IS NOT NULL GROUP BY l.destination
) b ON b.destination = n.name
LEFT JOIN message m ON m.sequence = b.oldest
LEFT JOIN (SELECT destination, count(*) AS dead_letters FROM dead_letter GROUP BY destination) x
  ON x.destination = n.name
"""


async def load_settings(transaction: Transaction, names: Collection[str]) -> dict[str, DestinationSettings]:
    """Return the settings of destinations that something goes to; those that aren't there are made. Read once."""
    remembered: dict[str, DestinationSettings] = transaction.remembered.setdefault("destinations", {})
    if missing := sorted(set(names).difference(remembered)):
        await _remember(transaction, remembered, missing)
    if made := sorted(set(names).difference(remembered)):
        await transaction.connection.execute(MAKE, made)
        await _remember(transaction, remembered, made)
    return {name: remembered[name] for name in names}


async def update_destination(
    transaction: Transaction, name: str, change: Callable[[DestinationSettings], DestinationSettings], actor: str
) -> DestinationSettings:
    """See `FeedStore.update_destination`."""
    connection = transaction.connection
    is_new = await connection.execute(MAKE, [name]) == "INSERT 0 1"
    before = _from_row(await connection.fetchrow(LOCK, name))
    changed = change(before)
    await connection.execute(REPLACE, *_to_row(changed), name)
    differences = find_differences(before, changed)
    if differences or is_new:
        await audit.write(transaction, actor, "destination-update", **{"destination": name} | differences)
    return changed


async def list_settings(transaction: Transaction) -> dict[str, DestinationSettings]:
    """Return the settings of all destinations."""
    rows: list[Any] = await transaction.connection.fetch(LIST)
    return {name: _from_row(row) for name, *row in rows}


async def list_destinations(transaction: Transaction) -> Sequence[DestinationStatus]:
    """Return every destination and what waits in it now, however long that takes."""
    return describe(await list_settings(transaction), await count(transaction))


async def count(transaction: Transaction) -> Count:
    """Count what waits. Takes a second for a million conversations."""
    rows: list[Any] = await transaction.connection.fetch(COUNT, transaction.now)
    return Count(transaction.now, {name: Counted(*row) for name, *row in rows})


async def _remember(
    transaction: Transaction, remembered: dict[str, DestinationSettings], names: Collection[str]
) -> None:
    rows: list[Any] = await transaction.connection.fetch(FIND, names)
    remembered.update((name, _from_row(row)) for name, *row in rows)


def _from_row(row: Any) -> DestinationSettings:
    return DestinationSettings(*row)


def _to_row(settings: DestinationSettings) -> tuple[float, int, float, float, float, bool, float]:
    return (
        settings.ack_deadline_seconds,
        settings.max_attempts,
        settings.min_backoff_seconds,
        settings.max_backoff_seconds,
        settings.backoff_jitter,
        settings.is_ordered,
        settings.retention_seconds,
    )
