"""The dead letters' SQL: deliveries that were given up, until an operator settles them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import apsw

from service.models import (
    AttemptOutcome,
    DeadLetter,
    DeadLetterSelection,
    DeliveryAttempt,
    SettledPage,
)
from service.store.sqlite import audit, lanes
from service.store.sqlite.lanes import Lane, LaneKey
from service.store.sqlite.schema import one_moment
from service.store.sqlite.writer import Transaction

ENDINGS = {
    AttemptOutcome.NACKED: "a consumer gave it back",
    AttemptOutcome.EXPIRED: "its lease ran out",
    AttemptOutcome.STREAM_BROKEN: "its consumer's stream broke",
}

KEEP = """
INSERT INTO dead_letter (destination, channel_config_id, message, is_replayed, dead_at, reason)
VALUES (?, ?, ?, ?, ?, ?)
"""

COLUMNS = (
    "d.number, d.destination, m.payload, d.message, d.dead_at, d.reason, d.is_replayed, m.sender, m.channel_config_id"
)

SELECTED = f"""
SELECT {COLUMNS} FROM dead_letter d JOIN message m ON m.sequence = d.message
WHERE (?1 IS NULL OR d.destination = ?1) AND (?2 IS NULL OR d.channel_config_id = ?2)
"""

SELECTED_BY_KEY = f"""
SELECT {COLUMNS} FROM message m JOIN dead_letter d ON d.message = m.sequence
WHERE m.channel_config_id = ? AND m.message_sid = ? AND (?3 IS NULL OR d.destination = ?3) AND d.number > ?4
"""

FIND_ATTEMPTS = """
SELECT number, started_at, ended_at, outcome FROM attempt WHERE message = ? AND destination = ? ORDER BY ended_at
"""

# What a destination acknowledged in an earlier replay stays acknowledged.
DISCARD = """
INSERT INTO settled (message, destination, attempts, settled_at, is_discarded) VALUES (?, ?, ?, ?, 1)
ON CONFLICT (message, destination) DO UPDATE SET settled_at = excluded.settled_at
"""


class _Row(NamedTuple):
    """A dead letter with its conversation."""

    number: int
    destination: str
    payload: bytes
    sequence: int
    dead_at: int
    reason: str
    is_replayed: int
    sender: str
    channel_config_id: str


def give_up(transaction: Transaction, lane: Lane, attempts: int, outcome: AttemptOutcome) -> None:
    """Move the head of a lane to the dead letters; its conversation goes on."""
    reason = f"{attempts} attempts failed; the last one ended because {ENDINGS[outcome]}"
    message = lanes.advance(transaction, lane)
    is_replayed = int(lane.part == lanes.REPLAYED)
    transaction.connection.execute(
        KEEP, (lane.destination, lane.channel_config_id, message, is_replayed, transaction.now, reason)
    )
    transaction.dead_letters[lane.destination] += 1


def list_dead_letters(
    connection: apsw.Connection, which: DeadLetterSelection, before: int | None, limit: int
) -> list[DeadLetter]:
    """See `FeedStore.list_dead_letters`."""
    with one_moment(connection):
        if which.keys:
            rows = sorted(_by_key(connection, which, 0), reverse=True)
        else:
            bindings = (which.destination, which.channel_config_id, before or 2**63 - 1, limit)
            found = connection.execute(f"{SELECTED} AND d.number < ?3 ORDER BY d.number DESC LIMIT ?4", bindings)
            rows = [_Row(*row) for row in found]
        return [_to_dead_letter(connection, row) for row in rows]


def redrive(transaction: Transaction, which: DeadLetterSelection, after: int, limit: int, actor: str) -> SettledPage:
    """See `FeedStore.redrive`."""
    rows = _take(transaction, which, after, limit)
    by_lane = sorted((_lane_key(transaction, row), row.sequence) for row in rows)
    for key, group in groupby(by_lane, key=lambda entry: entry[0]):
        lanes.put_in_front(transaction, key, [sequence for _, sequence in group])
    _audit(transaction, "redrive", rows, actor)
    return _page(rows, limit)


def discard_dead_letters(
    transaction: Transaction, which: DeadLetterSelection, after: int, limit: int, actor: str
) -> SettledPage:
    """See `FeedStore.discard_dead_letters`."""
    rows = _take(transaction, which, after, limit)
    for row in rows:
        failed = len(find_attempts(transaction.connection, row.sequence, row.destination))
        transaction.connection.execute(DISCARD, (row.sequence, row.destination, failed, transaction.now))
    _audit(transaction, "dead-letter-discard", rows, actor)
    return _page(rows, limit)


def _lane_key(transaction: Transaction, row: _Row) -> LaneKey:
    part = lanes.REPLAYED if row.is_replayed else lanes.part_of(transaction, row.destination, row.sequence)
    return LaneKey(row.destination, row.channel_config_id, row.sender, part)


def _take(transaction: Transaction, which: DeadLetterSelection, after: int, limit: int) -> list[_Row]:
    connection = transaction.connection
    if which.keys:
        rows = sorted(_by_key(connection, which, after))[:limit]
    else:
        bindings = (which.destination, which.channel_config_id, after, limit)
        found = connection.execute(f"{SELECTED} AND d.number > ?3 ORDER BY d.number LIMIT ?4", bindings)
        rows = [_Row(*row) for row in found]
    connection.executemany("DELETE FROM dead_letter WHERE number = ?", [(row.number,) for row in rows])
    return rows


def _by_key(connection: apsw.Connection, which: DeadLetterSelection, after: int) -> list[_Row]:
    return [
        _Row(*row)
        for key in dict.fromkeys(which.keys)
        for row in connection.execute(SELECTED_BY_KEY, (*key, which.destination, after))
    ]


def _audit(transaction: Transaction, action: str, rows: Sequence[_Row], actor: str) -> None:
    for destination, messages in sorted(Counter(row.destination for row in rows).items()):
        audit.write(transaction, actor, action, destination=destination, messages=messages)


def _page(rows: Sequence[_Row], limit: int) -> SettledPage:
    return SettledPage(len(rows), rows[-1].number if len(rows) == limit else None)


def _to_dead_letter(connection: apsw.Connection, row: _Row) -> DeadLetter:
    return DeadLetter(*row[:6], find_attempts(connection, row.sequence, row.destination), bool(row.is_replayed))


def find_attempts(connection: apsw.Connection, sequence: int, destination: str) -> list[DeliveryAttempt]:
    """Return the failed attempts to deliver a message to a destination, oldest first."""
    return [
        DeliveryAttempt(number, started_at, ended_at, AttemptOutcome(outcome))
        for number, started_at, ended_at, outcome in connection.execute(FIND_ATTEMPTS, (sequence, destination))
    ]
