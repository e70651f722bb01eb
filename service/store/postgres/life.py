"""The SQL of looking at messages: what is stored, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from service.models import (
    AssignmentReason,
    Decision,
    DeliveryAttempt,
    DeliveryState,
    DeliveryStatus,
    HoldReason,
    MessageFilter,
    MessagePage,
    MessageState,
    StoredMessage,
)
from service.store.postgres.dead_letters import find_attempts
from service.store.postgres.session import Transaction
from service.store.postgres.spans import Span, find_span

_Delivery: TypeAlias = tuple[int, str]
"""A message's sequence and a destination."""

COLUMNS = """
sequence, payload, committed_at, destinations, hold_reason, route_id, route_revision, assignment_reason, discarded_at
"""

FIND = f"SELECT {COLUMNS} FROM message WHERE channel_config_id = $1 AND message_sid = $2"

LOAD = f"SELECT {COLUMNS} FROM message WHERE sequence = ANY ($1::bigint[]) ORDER BY sequence DESC"

SETTLED = """
SELECT message, destination, attempts, delivered_at, settled_at, is_discarded FROM settled
WHERE message = ANY ($1::bigint[])
"""

DEAD = "SELECT message, destination FROM dead_letter WHERE message = ANY ($1::bigint[])"

# Only the head of a lane was ever delivered.
HEADS = """
SELECT m.sequence, l.destination, l.attempts, l.is_leased AND NOT l.has_expired AS is_out, l.due_at, l.leased_at
FROM message m CROSS JOIN unnest(m.destinations) AS n (destination)
JOIN lane l ON l.destination = n.destination AND l.channel_config_id = m.channel_config_id AND l.sender = m.sender
  AND l.part = ANY (ARRAY[0, m.sequence])
JOIN delivery d ON d.lane = l.id AND d.position = l.head AND d.message = m.sequence
WHERE m.sequence = ANY ($1::bigint[])
"""

MOST_EXAMINED = 5000
"""How many rows a page of a listing looks at, at the most."""

# A page looks along an index until it has enough; what isn't in the index is filtered out of what it has seen.
EXAMINED = """
SELECT sequence, channel_config_id, sender, destinations, hold_reason, discarded_at FROM message
WHERE {conditions} ORDER BY sequence DESC LIMIT {limit}
"""

LIST = "SELECT sequence FROM ({examined}) AS e WHERE {conditions} ORDER BY sequence DESC LIMIT {limit}"

LAST_EXAMINED = "SELECT count(*), min(sequence) FROM ({examined}) AS e"

IS_SETTLED = """NOT EXISTS (
  SELECT FROM unnest(e.destinations) AS n (destination)
  WHERE NOT EXISTS (SELECT FROM settled s WHERE s.message = e.sequence AND s.destination = n.destination)
)"""
IS_UNDER_WAY = "hold_reason IS NULL AND discarded_at IS NULL"

STATES = {
    MessageState.HELD: "hold_reason IS NOT NULL AND discarded_at IS NULL",
    MessageState.DISCARDED: "discarded_at IS NOT NULL",
    MessageState.DELIVERED: f"{IS_UNDER_WAY} AND {IS_SETTLED}",
    MessageState.PENDING: f"{IS_UNDER_WAY} AND NOT {IS_SETTLED}",
}


async def find_message(transaction: Transaction, channel_config_id: str, message_sid: str) -> StoredMessage | None:
    """See `MessageStore.find_message`."""
    row = await transaction.connection.fetchrow(FIND, channel_config_id, message_sid)
    return (await _bring_to_life(transaction, [row]))[0] if row else None


async def list_messages(transaction: Transaction, which: MessageFilter, before: int | None, limit: int) -> MessagePage:
    """See `MessageStore.list_messages`."""
    span = await find_span(transaction, which.start_at, which.end_at)
    query = _Query(which, span._replace(before=min(span.before, before or span.before)), limit)
    found: list[Any] = await transaction.connection.fetch(query.list, *query.values)
    sequences = [sequence for (sequence,) in found]
    messages = await _load(transaction, sequences)
    if len(sequences) == limit:
        return MessagePage(messages, sequences[-1])
    row: Any = await transaction.connection.fetchrow(query.last_examined, *query.examined_values)
    examined, last = row
    return MessagePage(messages, last if examined == MOST_EXAMINED else None)


class _Query:
    """The statements of a listing, and what they are bound to."""

    def __init__(self, which: MessageFilter, span: Span, limit: int) -> None:
        self.values: list[object] = []
        conditions = " AND ".join(self._along_index(which, span))
        examined = EXAMINED.format(conditions=conditions, limit=self._bind(MOST_EXAMINED))
        self.last_examined = LAST_EXAMINED.format(examined=examined)
        self.examined_values = list(self.values)
        conditions = " AND ".join(self._filters(which))
        self.list = LIST.format(examined=examined, conditions=conditions, limit=self._bind(limit))

    def _bind(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def _along_index(self, which: MessageFilter, span: Span) -> Iterator[str]:
        yield f"sequence >= {self._bind(span.first)} AND sequence < {self._bind(span.before)}"
        if which.start_at is not None:
            yield f"committed_at >= {self._bind(which.start_at)}"
        if which.end_at is not None:
            yield f"committed_at < {self._bind(which.end_at)}"
        is_held = which.state is MessageState.HELD
        if is_held:
            yield "hold_reason IS NOT NULL"
        # A channel alone has no index of all its messages.
        if which.channel_config_id is not None and (is_held or which.sender is not None):
            yield f"channel_config_id = {self._bind(which.channel_config_id)}"
            if which.sender is not None:
                yield f"sender = {self._bind(which.sender)}"

    def _filters(self, which: MessageFilter) -> Iterator[str]:
        yield "true"
        if which.channel_config_id is not None:
            yield f"e.channel_config_id = {self._bind(which.channel_config_id)}"
        if which.sender is not None:
            yield f"e.sender = {self._bind(which.sender)}"
        if which.destination is not None:
            yield f"{self._bind(which.destination)} = ANY (e.destinations)"
        if which.state is not None:
            yield STATES[which.state]


async def _load(transaction: Transaction, sequences: Sequence[int]) -> list[StoredMessage]:
    if not sequences:
        return []
    return await _bring_to_life(transaction, await transaction.connection.fetch(LOAD, sequences))


class _Lives(NamedTuple):
    """What became of deliveries, by message and destination: what is in none of these waits."""

    settled: Mapping[_Delivery, Any]
    dead: Collection[_Delivery]
    heads: Mapping[_Delivery, Any]
    failed: Mapping[_Delivery, Sequence[DeliveryAttempt]]


async def _bring_to_life(transaction: Transaction, rows: Sequence[Any]) -> list[StoredMessage]:
    """Return stored messages with what became of them, in a few looks for all of them."""
    connection, sequences = transaction.connection, [row["sequence"] for row in rows]
    settled: list[Any] = await connection.fetch(SETTLED, sequences)
    dead: list[Any] = await connection.fetch(DEAD, sequences)
    heads: list[Any] = await connection.fetch(HEADS, sequences)
    lives = _Lives(
        {(message, name): rest for message, name, *rest in settled},
        {(message, name) for message, name in dead},
        {(message, name): rest for message, name, *rest in heads},
        await find_attempts(transaction, sequences),
    )
    return [_to_message(row, lives, transaction.now) for row in rows]


def _to_message(row: Any, lives: _Lives, now: int) -> StoredMessage:
    sequence, payload, committed_at, names, hold_reason, route_id, route_revision, assigned, discarded_at = row
    reason = HoldReason(hold_reason) if hold_reason else None
    assignment_reason = AssignmentReason(assigned) if assigned else None
    decision = Decision(tuple(names), reason, route_id, route_revision, assignment_reason)
    is_aside = reason is not None or discarded_at is not None
    deliveries = [] if is_aside else [_delivery_status(lives, (sequence, name), now) for name in names]
    return StoredMessage(sequence, payload, committed_at, decision, deliveries, discarded_at)


def _delivery_status(lives: _Lives, delivery: _Delivery, now: int) -> DeliveryStatus:
    destination, failed = delivery[1], lives.failed.get(delivery, ())
    if delivery in lives.settled:
        attempts, delivered_at, settled_at, is_discarded = lives.settled[delivery]
        state = DeliveryState.DISCARDED if is_discarded else DeliveryState.ACKNOWLEDGED
        return DeliveryStatus(destination, state, attempts, delivered_at, settled_at, failed)
    last_at = failed[-1].started_at if failed else None
    if delivery in lives.dead:
        return DeliveryStatus(destination, DeliveryState.DEAD_LETTERED, len(failed), last_at, None, failed)
    if delivery not in lives.heads:
        return DeliveryStatus(destination, DeliveryState.WAITING, 0, last_at, None, failed)
    attempts, is_out, due_at, leased_at = lives.heads[delivery]
    if is_out and due_at > now:
        return DeliveryStatus(destination, DeliveryState.LEASED, attempts + 1, leased_at, None, failed)
    return DeliveryStatus(destination, DeliveryState.WAITING, attempts + is_out, last_at or leased_at, None, failed)
