"""The SQL of retention: walks what was settled, oldest first, and removes what nothing keeps any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from service.models import Conversation, DestinationSettings
from service.store.sqlite import assignments
from service.store.sqlite.removal import remove_message
from service.store.sqlite.writer import Transaction, microseconds

WALKS = "SELECT name, retention, pruned_until, pruned_message FROM destination"

DUE = """
SELECT settled_at, message FROM settled
WHERE destination = ?1 AND (settled_at, message) > (?2, ?3) AND settled_at <= ?4
ORDER BY settled_at, message LIMIT ?5
"""

MOVE_ON = "UPDATE destination SET pruned_until = ?, pruned_message = ? WHERE name = ?"

# Every destination that it went to, also by replay, has settled it long enough ago; no dead letter is left of it.
IS_OVER = """
SELECT m.hold_reason IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM json_each(m.destinations) n
    WHERE NOT EXISTS (SELECT 1 FROM settled s WHERE s.message = m.sequence AND s.destination = n.value)
  )
  AND NOT EXISTS (
    SELECT 1 FROM settled s JOIN destination d ON d.name = s.destination
    WHERE s.message = m.sequence AND s.settled_at > ?2 - d.retention * 1000000
  )
  AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE message = m.sequence)
FROM message m WHERE m.sequence = ?1
"""

WAITING = """
SELECT d.message FROM lane l JOIN delivery d ON d.lane = l.id
WHERE l.channel_config_id = ? AND l.sender = ? AND l.due_at IS NOT NULL
"""

CONVERSATION = "SELECT channel_config_id, sender FROM message WHERE sequence = ?"

DISCARDED = """
SELECT sequence FROM message WHERE discarded_at <= ? ORDER BY discarded_at LIMIT ?
"""

EXPIRED_ASSIGNMENTS = """
DELETE FROM assignment WHERE (channel_config_id, sender) IN (
  SELECT channel_config_id, sender FROM assignment WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
)
"""

EMPTY_LANES = """
DELETE FROM lane WHERE channel_config_id = ?1 AND sender = ?2 AND due_at IS NULL AND waits_for IS NULL
  AND NOT EXISTS (SELECT 1 FROM message WHERE channel_config_id = ?1 AND sender = ?2)
"""


@dataclass(slots=True)
class _Pruning:
    """One call, and what it has seen: the messages that lanes still bring, of each conversation that it met."""

    connection: apsw.Connection
    now: int
    waiting: dict[Conversation, set[int]] = field(default_factory=dict)
    met: set[Conversation] = field(default_factory=set)


def prune(transaction: Transaction, limit: int) -> int:
    """See `RetentionStore.prune`."""
    pruning = _Pruning(transaction.connection, transaction.now)
    looked_at = _prune_discarded(pruning, limit)
    walks: list[Any] = pruning.connection.execute(WALKS).fetchall()
    for name, retention, *position in walks:
        if looked_at < limit:
            looked_at += _walk(pruning, name, _before(pruning.now, retention), position, limit - looked_at)
    for conversation in pruning.met:
        pruning.connection.execute(EMPTY_LANES, conversation)
    return looked_at + _forget_assignments(transaction, limit)


def _walk(pruning: _Pruning, destination: str, until: int, position: Sequence[int], limit: int) -> int:
    """Look at what a destination settled after `position`, up to a time, and note how far that went."""
    rows: list[Any] = pruning.connection.execute(DUE, (destination, *position, until, limit)).fetchall()
    for _, message in rows:
        if pruning.connection.execute(IS_OVER, (message, pruning.now)).get:
            _remove_unless_waiting(pruning, message)
    if rows:
        pruning.connection.execute(MOVE_ON, (*rows[-1], destination))
    return len(rows)


def _prune_discarded(pruning: _Pruning, limit: int) -> int:
    until = _before(pruning.now, DestinationSettings().retention_seconds)
    rows: list[Any] = pruning.connection.execute(DISCARDED, (until, limit)).fetchall()
    for (message,) in rows:
        _remove(pruning, message, _conversation_of(pruning, message))
    return len(rows)


def _forget_assignments(transaction: Transaction, limit: int) -> int:
    transaction.connection.execute(EXPIRED_ASSIGNMENTS, (transaction.now, limit))
    forgotten = transaction.connection.changes()
    assignments.look_again(transaction)
    return forgotten


def _remove_unless_waiting(pruning: _Pruning, message: int) -> None:
    """Remove a message that no lane still brings: a replay, or what was moved to a destination that had replayed it.

    When that is settled, it is looked at again.
    """
    conversation = _conversation_of(pruning, message)
    if conversation not in pruning.waiting:
        # There is no index from messages to deliveries: one look at what waits of the conversation serves all of it.
        rows = pruning.connection.execute(WAITING, conversation)
        pruning.waiting[conversation] = {waiting for (waiting,) in rows}
    if message not in pruning.waiting[conversation]:
        _remove(pruning, message, conversation)


def _remove(pruning: _Pruning, message: int, conversation: Conversation) -> None:
    remove_message(pruning.connection, message)
    pruning.met.add(conversation)


def _conversation_of(pruning: _Pruning, message: int) -> Conversation:
    row: Any = pruning.connection.execute(CONVERSATION, (message,)).fetchone()
    return Conversation(*row)


def _before(now: int, seconds: float) -> int:
    return now - microseconds(seconds)
