"""The destinations' SQL: their settings, and what waits in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from service.models import DestinationSettings, DestinationStatus
from service.store.audit_details import find_differences
from service.store.counting import Count, Counted, describe
from service.store.sqlite import audit
from service.store.sqlite.writer import Transaction

SETTINGS = "ack_deadline, max_attempts, min_backoff, max_backoff, backoff_jitter, is_ordered, retention"

MOST_REMEMBERED = 1000

LIST = f"SELECT name, {SETTINGS} FROM destination"

# Heads alone: the oldest message of a lane is its head.
COUNT = """
SELECT b.destination, b.conversations, b.backlog, b.leased, m.committed_at
FROM (
  SELECT l.destination, count(*) AS conversations, sum(l.tail - l.head + 1) AS backlog,
         sum(l.is_leased AND NOT l.has_expired AND l.due_at > ?) AS leased, min(d.message) AS oldest
  FROM lane l JOIN delivery d ON d.lane = l.id AND d.position = l.head
  WHERE l.due_at IS NOT NULL GROUP BY l.destination
) b LEFT JOIN message m ON m.sequence = b.oldest
"""
COUNT_DEAD = "SELECT destination, count(*) FROM dead_letter GROUP BY destination"

# What a longer retention keeps from now on may have been looked at before: start again.
REPLACE = f"""
UPDATE destination SET ({SETTINGS}) = (?, ?, ?, ?, ?, ?, ?),
  pruned_until = CASE WHEN retention = ?7 THEN pruned_until ELSE 0 END
WHERE name = ?
"""


def settings_of(transaction: Transaction, name: str) -> DestinationSettings:
    """Return the settings of a destination that something goes to; it is made if there is none."""
    remembered = transaction.remembered.destinations
    settings = remembered.get(name)
    if settings is None:
        settings = find_settings(transaction, name)
        if settings is None:
            transaction.connection.execute("INSERT INTO destination (name) VALUES (?)", (name,))
            settings = DestinationSettings()
        if len(remembered) >= MOST_REMEMBERED:
            remembered.clear()
        remembered[name] = settings
    return settings


def find_settings(transaction: Transaction, name: str) -> DestinationSettings | None:
    """Return the settings of a destination, None when nothing has named it yet."""
    row = transaction.connection.execute(f"SELECT {SETTINGS} FROM destination WHERE name = ?", (name,)).fetchone()
    return _from_row(row) if row else None


def update_destination(
    transaction: Transaction, name: str, change: Callable[[DestinationSettings], DestinationSettings], actor: str
) -> DestinationSettings:
    """See `FeedStore.update_destination`."""
    found = find_settings(transaction, name)
    before = found or DestinationSettings()
    changed = change(before)
    settings_of(transaction, name)
    transaction.connection.execute(REPLACE, (*_to_row(changed), name))
    transaction.remembered.destinations[name] = changed
    differences = find_differences(before, changed)
    if differences or found is None:
        audit.write(transaction, actor, "destination-update", **{"destination": name} | differences)
    return changed


def list_settings(connection: apsw.Connection) -> dict[str, DestinationSettings]:
    """Return the settings of all destinations."""
    rows: list[Any] = connection.execute(LIST).fetchall()
    return {name: _from_row(row) for name, *row in rows}


def list_destinations(connection: apsw.Connection, now: int) -> Sequence[DestinationStatus]:
    """Return every destination and what waits in it now, however long that takes."""
    return describe(list_settings(connection), count(connection, now))


def count(connection: apsw.Connection, now: int) -> Count:
    """Count what waits, all of it as of one moment. Takes a third of a second for a million conversations."""
    with connection:
        alive: list[Any] = connection.execute(COUNT, (now,)).fetchall()
        dead: list[Any] = connection.execute(COUNT_DEAD).fetchall()
    waiting = {name: Counted(*row) for name, *row in alive}
    for name, dead_letters in dead:
        waiting[name] = waiting.get(name, Counted())._replace(dead_letters=dead_letters)
    return Count(now, waiting)


def _from_row(row: Any) -> DestinationSettings:
    ack_deadline, max_attempts, min_backoff, max_backoff, jitter, is_ordered, retention = row
    return DestinationSettings(
        ack_deadline, max_attempts, min_backoff, max_backoff, jitter, bool(is_ordered), retention
    )


def _to_row(settings: DestinationSettings) -> tuple[float, int, float, float, float, int, float]:
    return (
        settings.ack_deadline_seconds,
        settings.max_attempts,
        settings.min_backoff_seconds,
        settings.max_backoff_seconds,
        settings.backoff_jitter,
        int(settings.is_ordered),
        settings.retention_seconds,
    )
