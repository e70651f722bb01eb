"""The destinations' SQL: their settings, and what waits in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from service.models import DestinationSettings, DestinationStatus
from service.store.audit_details import find_differences
from service.store.sqlite import audit
from service.store.sqlite.writer import Transaction

SETTINGS = "ack_deadline, max_attempts, min_backoff, max_backoff, backoff_jitter, is_ordered, retention"

# Heads alone: the oldest message of a lane is its head.
STATUS = f"""
SELECT n.name, coalesce(b.backlog, 0), coalesce(b.leased, 0), m.committed_at, coalesce(x.dead_letters, 0), {SETTINGS}
FROM (SELECT name FROM destination UNION SELECT destination FROM lane WHERE due_at IS NOT NULL) n
LEFT JOIN destination s ON s.name = n.name
LEFT JOIN (
  SELECT l.destination, sum(l.tail - l.head + 1) AS backlog,
         sum(l.is_leased AND NOT l.has_expired AND l.due_at > :now) AS leased, min(d.message) AS oldest
  FROM lane l JOIN delivery d ON d.lane = l.id AND d.position = l.head
  WHERE l.due_at IS NOT NULL GROUP BY l.destination
) b ON b.destination = n.name
LEFT JOIN message m ON m.sequence = b.oldest
LEFT JOIN (SELECT destination, count(*) AS dead_letters FROM dead_letter GROUP BY destination) x
  ON x.destination = n.name
ORDER BY n.name
"""

# What a longer retention keeps from now on may have been looked at before: start again.
REPLACE = f"""
UPDATE destination SET ({SETTINGS}) = (?, ?, ?, ?, ?, ?, ?),
  pruned_until = CASE WHEN retention = ?7 THEN pruned_until ELSE 0 END
WHERE name = ?
"""


def settings_of(transaction: Transaction, name: str) -> DestinationSettings:
    """Return the settings of a destination that something goes to; it is made if there is none. Read once."""
    remembered: dict[str, DestinationSettings] = transaction.remembered.setdefault("destinations", {})
    settings = remembered.get(name)
    if settings is None:
        settings = find_settings(transaction, name)
        if settings is None:
            transaction.connection.execute("INSERT INTO destination (name) VALUES (?)", (name,))
            settings = DestinationSettings()
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
    transaction.remembered["destinations"][name] = changed
    differences = find_differences(before, changed)
    if differences or found is None:
        audit.write(transaction, actor, "destination-update", **{"destination": name} | differences)
    return changed


def list_destinations(connection: apsw.Connection, now: int) -> list[DestinationStatus]:
    """See `FeedStore.list_destinations`."""
    rows: list[Any] = connection.execute(STATUS, {"now": now}).fetchall()
    return [
        DestinationStatus(
            name, backlog, leased, oldest_at, dead, _from_row(row) if row[0] is not None else DestinationSettings()
        )
        for name, backlog, leased, oldest_at, dead, *row in rows
    ]


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
