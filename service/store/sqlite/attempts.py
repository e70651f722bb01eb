"""Failed attempts: counted and kept, and what comes after them."""

from __future__ import annotations

import random

from service.models import AttemptOutcome
from service.store.sqlite import assignments, dead_letters, lanes
from service.store.sqlite.destinations import settings_of
from service.store.sqlite.lanes import Lane
from service.store.sqlite.writer import Transaction, microseconds

KEEP = """
REPLACE INTO attempt (message, destination, ended_at, number, started_at, outcome) VALUES (?, ?, ?, ?, ?, ?)
"""

# A lease that ran out stays good for an acknowledgement until the next claim.
WAIT = "UPDATE lane SET attempts = ?, is_leased = ?, has_expired = ?, due_at = ? WHERE id = ?"


def fail(transaction: Transaction, lane: Lane, outcome: AttemptOutcome, delay_seconds: float | None = None) -> None:
    """End an attempt that failed: the delivery is given up, moves, or waits for so long, or for its back-off."""
    count = lane.attempts + 1
    has_expired = int(outcome is AttemptOutcome.EXPIRED)
    ended_at = lane.due_at if has_expired and lane.due_at else transaction.now
    message = lanes.head_message(transaction, lane)
    transaction.connection.execute(
        KEEP, (message, lane.destination, ended_at, count, lane.leased_at or ended_at, outcome)
    )
    settings = settings_of(transaction, lane.destination)
    if count >= settings.max_attempts:
        dead_letters.give_up(transaction, lane, count, outcome)
    elif lane.awaited_by is not None:
        assignments.move_head(transaction, lane)
    else:
        if delay_seconds is None:
            delay_seconds = settings.backoff_seconds(count, random.random())  # noqa: S311 - spreads load, hides nothing
        due_at = ended_at + microseconds(delay_seconds)
        transaction.connection.execute(WAIT, (count, has_expired, has_expired, due_at, lane.id))
        transaction.ready.add(lane.destination)
