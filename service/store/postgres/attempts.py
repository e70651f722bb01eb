"""Failed attempts: counted and kept, and what comes after them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from service.models import AttemptOutcome, DestinationSettings
from service.store.postgres import assignments, dead_letters, heads
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import Lane
from service.store.postgres.session import Transaction, microseconds

KEEP = """
INSERT INTO attempt (message, destination, ended_at, number, started_at, outcome)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[], $6::text[])
ON CONFLICT (message, destination, ended_at, number) DO NOTHING
"""

# A lease that ran out stays good for an acknowledgement until the next claim.
WAIT = """
UPDATE lane l SET attempts = w.attempts, is_leased = w.has_expired, has_expired = w.has_expired, due_at = w.due_at
FROM unnest($1::bigint[], $2::integer[], $3::boolean[], $4::bigint[]) AS w (lane, attempts, has_expired, due_at)
WHERE l.id = w.lane
"""


class Failure(NamedTuple):
    """The attempt of a locked lane that failed. What comes back waits for `delay_seconds`, or for its back-off."""

    lane: Lane
    outcome: AttemptOutcome
    delay_seconds: float | None = None

    @property
    def attempts(self) -> int:
        """How many have failed now."""
        return self.lane.attempts + 1

    @property
    def has_expired(self) -> bool:
        return self.outcome is AttemptOutcome.EXPIRED

    def ended_at(self, now: int) -> int:
        """When it ended: with its lease, where that ran out."""
        return self.lane.due_at if self.has_expired and self.lane.due_at else now

    def due_at(self, now: int, settings: DestinationSettings) -> int:
        """When the next attempt may begin."""
        seconds = self.delay_seconds
        if seconds is None:
            seconds = settings.backoff_seconds(self.attempts, random.random())  # noqa: S311 - spreads load, hides nothing
        return self.ended_at(now) + microseconds(seconds)


async def fail(transaction: Transaction, failures: Sequence[Failure]) -> None:
    """End attempts that failed: each delivery is given up, moves, or waits. The lanes that wait for it are locked."""
    if not failures:
        return
    await _keep(transaction, failures)
    settings = await load_settings(transaction, {failure.lane.destination for failure in failures})
    given_up, moving, waiting = [], [], []
    for failure in failures:
        if failure.attempts >= settings[failure.lane.destination].max_attempts:
            given_up.append(failure)
        elif failure.lane.awaited_by is not None:
            moving.append(failure)
        else:
            waiting.append(failure)
    await dead_letters.give_up(transaction, [(each.lane, each.attempts, each.outcome) for each in given_up])
    for failure in moving:
        await assignments.move_head(transaction, failure.lane)
    await _wait(transaction, waiting, settings)


async def _keep(transaction: Transaction, failures: Sequence[Failure]) -> None:
    messages = await heads.head_messages(transaction, [failure.lane for failure in failures])
    ended_at = [failure.ended_at(transaction.now) for failure in failures]
    await transaction.connection.execute(
        KEEP,
        [messages[failure.lane.id] for failure in failures],
        [failure.lane.destination for failure in failures],
        ended_at,
        [failure.attempts for failure in failures],
        [failure.lane.leased_at or end for failure, end in zip(failures, ended_at, strict=True)],
        [failure.outcome.value for failure in failures],
    )


async def _wait(
    transaction: Transaction, failures: Sequence[Failure], settings: dict[str, DestinationSettings]
) -> None:
    await transaction.connection.execute(
        WAIT,
        [failure.lane.id for failure in failures],
        [failure.attempts for failure in failures],
        [failure.has_expired for failure in failures],
        [failure.due_at(transaction.now, settings[failure.lane.destination]) for failure in failures],
    )
    transaction.ready.update(failure.lane.destination for failure in failures)
