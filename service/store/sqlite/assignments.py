"""Assignments: with which destination a conversation stays, and how its deliveries get there."""

from __future__ import annotations

from typing import Any

import apsw

from service.models import Assignment, AssignmentReason, Conversation, Decision, Release
from service.store.routes_json import dump_names, load_names
from service.store.sqlite import lanes
from service.store.sqlite.lanes import Lane
from service.store.sqlite.writer import Transaction

FIND = """
SELECT destination, assigned_at, expires_at, reason FROM assignment
WHERE channel_config_id = ? AND sender = ? AND expires_at > ?
"""

ASSIGN = "REPLACE INTO assignment VALUES (?, ?, ?, ?, ?, 'ASSIGNED')"

# Never in place of an assignment that is still in force.
KEEP_AFFINITY = """
INSERT INTO assignment VALUES (?1, ?2, ?3, ?4, ?5, 'AFFINITY')
ON CONFLICT (channel_config_id, sender) DO UPDATE SET
  destination = excluded.destination, expires_at = excluded.expires_at, reason = excluded.reason,
  assigned_at = CASE WHEN expires_at > ?4 THEN assigned_at ELSE excluded.assigned_at END
WHERE reason = 'AFFINITY' OR expires_at <= ?4
"""

REDIRECT = "UPDATE message SET destinations = ?, assignment_reason = 'ASSIGNED' WHERE sequence = ?"


def find(connection: apsw.Connection, conversation: Conversation, now: int) -> Assignment | None:
    """See `FeedStore.find_assignment`."""
    row: Any = connection.execute(FIND, (*conversation, now)).fetchone()
    if row is None:
        return None
    destination, assigned_at, expires_at, reason = row
    return Assignment(destination, assigned_at, expires_at, AssignmentReason(reason))


def apply(transaction: Transaction, conversation: Conversation, decision: Decision) -> Decision:
    """Return the decision with the conversation's assignment in force, if there is one."""
    if decision.hold_reason is not None or not decision.destinations or not is_any(transaction):
        return decision
    assignment = find(transaction.connection, conversation, transaction.now)
    if assignment is None or (assignment.reason is AssignmentReason.AFFINITY and not decision.affinity_seconds):
        return decision
    return decision.assigned(assignment)


def decide(transaction: Transaction, conversation: Conversation, release: Release) -> Decision:
    """Return the decision of a release that is in force."""
    if not release.follows_assignment:
        return release.decision
    return apply(transaction, conversation, release.decision)


def is_any(transaction: Transaction) -> bool:
    """Whether there is any assignment at all: looked up when it isn't known."""
    remembered = transaction.remembered
    if remembered.is_any_assigned is None:
        found = transaction.connection.execute("SELECT EXISTS (SELECT 1 FROM assignment)").get
        remembered.is_any_assigned = bool(found)
    return remembered.is_any_assigned


def look_again(transaction: Transaction) -> None:
    """Let `is_any` look: some were deleted."""
    transaction.remembered.is_any_assigned = None


def keep_affinity(transaction: Transaction, conversation: Conversation, decision: Decision) -> None:
    """Let a conversation stay where this message of it goes, if its channel wants that."""
    if decision.hold_reason is None and decision.affinity_seconds and decision.destinations:
        expires_at = transaction.now + decision.affinity_seconds * 1_000_000
        transaction.connection.execute(
            KEEP_AFFINITY, (*conversation, decision.destinations[0], transaction.now, expires_at)
        )
        transaction.remembered.is_any_assigned = True


def assign(transaction: Transaction, conversation: Conversation, destination: str, expires_at: int) -> None:
    """Let a conversation stay with a destination until then."""
    transaction.connection.execute(ASSIGN, (*conversation, destination, transaction.now, expires_at))
    transaction.remembered.is_any_assigned = True


def end(transaction: Transaction, conversation: Conversation) -> None:
    """Let a conversation go by the routes again."""
    transaction.connection.execute(
        "DELETE FROM assignment WHERE channel_config_id = ? AND sender = ?", tuple(conversation)
    )
    look_again(transaction)


def redirect(transaction: Transaction, sequence: int, destination: str) -> bool:
    """Replace a message's first destination; return whether this gives it a delivery that it has not had."""
    first, *others = destinations_of(transaction, sequence)
    names = (destination, *(name for name in others if name != destination))
    transaction.connection.execute(REDIRECT, (dump_names(names), sequence))
    return first != destination and destination not in others


def destinations_of(transaction: Transaction, sequence: int) -> tuple[str, ...]:
    """Return where a stored message goes."""
    return load_names(
        transaction.connection.execute("SELECT destinations FROM message WHERE sequence = ?", (sequence,)).get
    )


def move_head(transaction: Transaction, lane: Lane) -> None:
    """Bring the head of a lane, whose attempt is over, to the front of the lane that waits for it."""
    target = lanes.load(transaction, lane.awaited_by or 0)
    sequence = lanes.advance(transaction, lane)
    if target is not None and redirect(transaction, sequence, target.destination):
        lanes.put_in_front(transaction, target.key, [sequence])
