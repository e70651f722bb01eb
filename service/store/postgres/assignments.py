"""Assignments: with which destination a conversation stays, and how its deliveries get there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from service.models import Assignment, AssignmentReason, Conversation, Decision, Release
from service.store.postgres import heads, lanes, positions
from service.store.postgres.lanes import Lane
from service.store.postgres.session import Transaction

FIND = """
SELECT a.channel_config_id, a.sender, a.destination, a.assigned_at, a.expires_at, a.reason
FROM unnest($1::text[], $2::text[]) AS c (channel_config_id, sender) JOIN assignment a USING (channel_config_id, sender)
WHERE a.expires_at > $3
"""

ASSIGN = """
INSERT INTO assignment (channel_config_id, sender, destination, assigned_at, expires_at, reason)
VALUES ($1, $2, $3, $4, $5, 'ASSIGNED')
ON CONFLICT (channel_config_id, sender) DO UPDATE SET
  destination = excluded.destination, assigned_at = excluded.assigned_at, expires_at = excluded.expires_at,
  reason = excluded.reason
"""

# Never in place of an assignment that is still in force.
KEEP_AFFINITY = """
INSERT INTO assignment AS a (channel_config_id, sender, destination, assigned_at, expires_at, reason)
SELECT channel_config_id, sender, destination, $5, $5 + seconds * 1000000, 'AFFINITY'
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n (channel_config_id, sender, destination, seconds)
ON CONFLICT (channel_config_id, sender) DO UPDATE SET
  destination = excluded.destination, expires_at = excluded.expires_at, reason = excluded.reason,
  assigned_at = CASE WHEN a.expires_at > $5 THEN a.assigned_at ELSE excluded.assigned_at END
WHERE a.reason = 'AFFINITY' OR a.expires_at <= $5
"""

END = "DELETE FROM assignment WHERE channel_config_id = $1 AND sender = $2"

DESTINATIONS = "SELECT sequence, destinations FROM message WHERE sequence = ANY ($1::bigint[])"

REDIRECT = "UPDATE message SET destinations = $2, assignment_reason = 'ASSIGNED' WHERE sequence = $1"


async def find(transaction: Transaction, conversation: Conversation) -> Assignment | None:
    """See `FeedStore.find_assignment`."""
    return (await find_all(transaction, [conversation])).get(conversation)


async def find_all(transaction: Transaction, conversations: Collection[Conversation]) -> dict[Conversation, Assignment]:
    """Return the assignments that are in force."""
    channels, senders = [each.channel_config_id for each in conversations], [each.sender for each in conversations]
    rows: list[Any] = await transaction.connection.fetch(FIND, channels, senders, transaction.now)
    return {
        Conversation(channel, sender): Assignment(destination, assigned_at, expires_at, AssignmentReason(reason))
        for channel, sender, destination, assigned_at, expires_at, reason in rows
    }


def apply(decision: Decision, assignment: Assignment | None) -> Decision:
    """Return the decision with the conversation's assignment in force, if there is one."""
    if assignment is None or decision.hold_reason is not None or not decision.destinations:
        return decision
    if assignment.reason is AssignmentReason.AFFINITY and not decision.affinity_seconds:
        return decision
    return decision.assigned(assignment)


def decide(release: Release, assignment: Assignment | None) -> Decision:
    """Return the decision of a release that is in force."""
    return apply(release.decision, assignment) if release.follows_assignment else release.decision


async def keep_affinity(transaction: Transaction, staying: Mapping[Conversation, Decision]) -> None:
    """Let conversations stay where messages of them go, for as long as their decisions say."""
    ordered = sorted(staying)
    await transaction.connection.execute(
        KEEP_AFFINITY,
        [conversation.channel_config_id for conversation in ordered],
        [conversation.sender for conversation in ordered],
        [staying[conversation].destinations[0] for conversation in ordered],
        [staying[conversation].affinity_seconds for conversation in ordered],
        transaction.now,
    )


async def assign(transaction: Transaction, conversation: Conversation, destination: str, expires_at: int) -> None:
    """Let a conversation stay with a destination until then."""
    await transaction.connection.execute(ASSIGN, *conversation, destination, transaction.now, expires_at)


async def end(transaction: Transaction, conversation: Conversation) -> None:
    """Let a conversation go by the routes again."""
    await transaction.connection.execute(END, *conversation)


async def redirect(transaction: Transaction, sequences: Sequence[int], destination: str) -> list[int]:
    """Replace the first destination of messages; return those to which this gives a delivery that they have not had."""
    arriving: list[int] = []
    destinations = await destinations_of(transaction, sequences)
    changes: list[tuple[int, list[str]]] = []
    for sequence in sequences:
        first, *others = destinations[sequence]
        changes.append((sequence, [destination, *(name for name in others if name != destination)]))
        if first != destination and destination not in others:
            arriving.append(sequence)
    await transaction.connection.executemany(REDIRECT, changes)
    return arriving


async def destinations_of(transaction: Transaction, sequences: Collection[int]) -> Mapping[int, Sequence[str]]:
    """Return where stored messages go."""
    rows: list[Any] = await transaction.connection.fetch(DESTINATIONS, list(sequences))
    return dict(tuple(row) for row in rows)


async def move_head(transaction: Transaction, lane: Lane) -> None:
    """Bring the head of a lane, whose attempt is over, to the front of the lane that waits for it. Both are locked."""
    target = await lanes.load(transaction, lane.awaited_by or 0)
    sequences = list((await heads.advance(transaction, [lane])).values())
    if target is not None:
        arriving = await redirect(transaction, sequences, target.destination)
        await positions.put_in_front(transaction, [(target.key, sequence) for sequence in arriving])
