"""The messages' SQL: looking at what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from service.models import (
    AssignmentReason,
    Decision,
    DeliveryState,
    DeliveryStatus,
    HoldReason,
    MessageFilter,
    MessagePage,
    MessageState,
    StoredMessage,
)
from service.store.routes_json import load_names
from service.store.sqlite.dead_letters import find_attempts
from service.store.sqlite.schema import one_moment

COLUMNS = """
sequence, payload, committed_at, destinations, hold_reason, route_id, route_revision, assignment_reason, discarded_at
"""

SETTLED = """
SELECT attempts, delivered_at, settled_at, is_discarded FROM settled WHERE message = ? AND destination = ?
"""

IS_DEAD = "SELECT 1 FROM dead_letter WHERE message = ? AND destination = ?"

# Only the head of a lane was ever delivered.
HEAD = """
SELECT l.attempts, l.is_leased AND NOT l.has_expired, l.due_at, l.leased_at FROM message m
JOIN lane l ON l.destination = ? AND l.channel_config_id = m.channel_config_id AND l.sender = m.sender AND l.part >= 0
JOIN delivery d ON d.lane = l.id AND d.position = l.head AND d.message = m.sequence WHERE m.sequence = ?
"""

MOST_EXAMINED = 5000
"""How many rows a page of a listing looks at, at the most."""


def find_last_commit(connection: apsw.Connection) -> int:
    """Return when the newest message was committed, 0 when there is none."""
    return connection.execute("SELECT committed_at FROM message ORDER BY sequence DESC LIMIT 1").get or 0


def find_message(
    connection: apsw.Connection, channel_config_id: str, message_sid: str, now: int
) -> StoredMessage | None:
    """See `MessageStore.find_message`."""
    with one_moment(connection):
        row = connection.execute(
            f"SELECT {COLUMNS} FROM message WHERE channel_config_id = ? AND message_sid = ?",
            (channel_config_id, message_sid),
        ).fetchone()
        return _from_row(connection, row, now) if row else None


def list_messages(
    connection: apsw.Connection, which: MessageFilter, before: int | None, limit: int, now: int
) -> MessagePage:
    """See `MessageStore.list_messages`."""
    with one_moment(connection):
        before = min(first_sequence_at(connection, which.end_at), before or 2**63 - 1)
        found: list[StoredMessage] = []
        for examined, (sequence, committed_at) in enumerate(_candidates(connection, which, before), start=1):
            if which.start_at is not None and committed_at < which.start_at:
                return MessagePage(found, None)
            stored = _load(connection, sequence, now)
            if _passes(stored, which):
                found.append(stored)
            if len(found) == limit or examined == MOST_EXAMINED:
                return MessagePage(found, sequence)
        return MessagePage(found, None)


def _candidates(connection: apsw.Connection, which: MessageFilter, before: int) -> Iterator[tuple[int, int]]:
    conditions: list[str] = ["sequence < ?"]
    bindings: list[int | str] = [before]
    for column, value in (("channel_config_id", which.channel_config_id), ("sender", which.sender)):
        if value is not None:
            conditions.append(f"{column} = ?")
            bindings.append(value)
    if which.state is MessageState.HELD:
        conditions.append("hold_reason IS NOT NULL")
    # A channel alone is looked for along the sequence; a conversation, and what is held, by its index.
    is_indexed = which.sender is not None or which.state is MessageState.HELD
    table = "message" if is_indexed else "message NOT INDEXED"
    yield from connection.execute(
        f"SELECT sequence, committed_at FROM {table} WHERE {' AND '.join(conditions)} ORDER BY sequence DESC", bindings
    )


def first_sequence_at(connection: apsw.Connection, at: int | None) -> int:
    """Return the first sequence that was committed at `at` or later, by bisection: both only grow together."""
    low, high = 1, connection.execute("SELECT coalesce(max(sequence), 0) + 1 FROM message").get
    if at is None:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        committed_at = connection.execute(
            "SELECT committed_at FROM message WHERE sequence >= ? ORDER BY sequence LIMIT 1", (middle,)
        ).get
        low, high = (middle + 1, high) if committed_at < at else (low, middle)
    return low


def _load(connection: apsw.Connection, sequence: int, now: int) -> StoredMessage:
    return _from_row(
        connection, connection.execute(f"SELECT {COLUMNS} FROM message WHERE sequence = ?", (sequence,)).get, now
    )


def _passes(stored: StoredMessage, which: MessageFilter) -> bool:
    is_there = which.destination is None or which.destination in stored.decision.destinations
    return is_there and which.state in {None, stored.state}


def _from_row(connection: apsw.Connection, row: tuple[Any, ...], now: int) -> StoredMessage:
    sequence, payload, committed_at, destinations, hold_reason, route_id, route_revision, assigned, discarded_at = row
    reason = HoldReason(hold_reason) if hold_reason else None
    names = load_names(destinations)
    decision = Decision(names, reason, route_id, route_revision, AssignmentReason(assigned) if assigned else None)
    is_aside = reason is not None or discarded_at is not None
    deliveries = [] if is_aside else [_delivery_status(connection, sequence, name, now) for name in names]
    return StoredMessage(sequence, payload, committed_at, decision, deliveries, discarded_at)


def _delivery_status(connection: apsw.Connection, sequence: int, destination: str, now: int) -> DeliveryStatus:
    failed = find_attempts(connection, sequence, destination)
    settled = connection.execute(SETTLED, (sequence, destination)).fetchone()
    if settled:
        attempts, delivered_at, settled_at, is_discarded = settled
        state = DeliveryState.DISCARDED if is_discarded else DeliveryState.ACKNOWLEDGED
        return DeliveryStatus(destination, state, attempts, delivered_at, settled_at, failed)
    last_at = failed[-1].started_at if failed else None
    if connection.execute(
        "SELECT 1 FROM dead_letter WHERE message = ? AND destination = ?", (sequence, destination)
    ).get:
        return DeliveryStatus(destination, DeliveryState.DEAD_LETTERED, len(failed), last_at, None, failed)
    head = connection.execute(HEAD, (destination, sequence)).fetchone()
    if head is None:
        return DeliveryStatus(destination, DeliveryState.WAITING, 0, last_at, None, failed)
    attempts, is_out, due_at, leased_at = head
    if is_out and due_at > now:
        return DeliveryStatus(destination, DeliveryState.LEASED, attempts + 1, leased_at, None, failed)
    return DeliveryStatus(destination, DeliveryState.WAITING, attempts + is_out, last_at or leased_at, None, failed)
