"""The dead letters' SQL: deliveries that were given up, until an operator settles them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from service.models import (
    AttemptOutcome,
    Conversation,
    DeadLetter,
    DeadLetterSelection,
    DeliveryAttempt,
    SettledPage,
)
from service.store.postgres import audit, conversations, heads, lanes, positions
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import Lane, LaneKey
from service.store.postgres.removal import keep_messages
from service.store.postgres.session import Transaction

LAST_NUMBER = 2**63 - 1

ENDINGS = {
    AttemptOutcome.NACKED: "a consumer gave it back",
    AttemptOutcome.EXPIRED: "its lease ran out",
    AttemptOutcome.STREAM_BROKEN: "its consumer's stream broke",
}

KEEP = """
INSERT INTO dead_letter (destination, channel_config_id, message, is_replayed, dead_at, reason)
SELECT destination, channel_config_id, message, is_replayed, $6, reason
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::text[])
  AS n (destination, channel_config_id, message, is_replayed, reason)
"""

COLUMNS = (
    "d.number, d.destination, m.payload, d.message, d.dead_at, d.reason, d.is_replayed, m.sender, m.channel_config_id"
)

SELECTED = f"""
SELECT {COLUMNS} FROM dead_letter d JOIN message m ON m.sequence = d.message
WHERE d.number {{side}} $1 {{conditions}} ORDER BY d.number {{order}} LIMIT $2
"""

BY_KEY = f"""
SELECT DISTINCT {COLUMNS}
FROM unnest($1::text[], $2::text[]) AS k (channel_config_id, message_sid)
JOIN message m USING (channel_config_id, message_sid) JOIN dead_letter d ON d.message = m.sequence
WHERE ($3::text IS NULL OR d.destination = $3) AND d.number > $4 ORDER BY d.number
"""

LOCK = "SELECT number FROM dead_letter WHERE number = ANY ($1::bigint[]) ORDER BY number FOR UPDATE"

FORGET = "DELETE FROM dead_letter WHERE number = ANY ($1::bigint[])"

FIND_ATTEMPTS = """
SELECT message, destination, number, started_at, ended_at, outcome FROM attempt
WHERE message = ANY ($1::bigint[]) ORDER BY ended_at, number
"""

# What a destination acknowledged in an earlier replay stays acknowledged.
DISCARD = """
INSERT INTO settled (message, destination, attempts, settled_at, is_discarded)
SELECT DISTINCT ON (message, destination) message, destination, attempts, $4::bigint, true
FROM unnest($1::bigint[], $2::text[], $3::integer[]) AS n (message, destination, attempts)
ORDER BY message, destination
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
    is_replayed: bool
    sender: str
    channel_config_id: str


async def give_up(transaction: Transaction, endings: Sequence[tuple[Lane, int, AttemptOutcome]]) -> None:
    """Move the heads of lanes to the dead letters, after so many attempts; their conversations go on."""
    if not endings:
        return
    messages = await heads.advance(transaction, [lane for lane, _, _ in endings])
    await transaction.connection.execute(
        KEEP,
        [lane.destination for lane, _, _ in endings],
        [lane.channel_config_id for lane, _, _ in endings],
        [messages[lane.id] for lane, _, _ in endings],
        [lane.part == lanes.REPLAYED for lane, _, _ in endings],
        [
            f"{attempts} attempts failed; the last one ended because {ENDINGS[outcome]}"
            for _, attempts, outcome in endings
        ],
        transaction.now,
    )
    transaction.dead_letters.update(lane.destination for lane, _, _ in endings)


async def list_dead_letters(
    transaction: Transaction, which: DeadLetterSelection, before: int | None, limit: int
) -> list[DeadLetter]:
    """See `FeedStore.list_dead_letters`."""
    if which.keys:
        rows = (await _by_key(transaction, which, 0))[::-1]
    else:
        rows = await _select(transaction, which, before or LAST_NUMBER, limit, is_newest_first=True)
    attempts = await find_attempts(transaction, [row.sequence for row in rows])
    return [DeadLetter(*row[:6], attempts.get((row.sequence, row.destination), []), row.is_replayed) for row in rows]


async def redrive(
    transaction: Transaction, which: DeadLetterSelection, after: int, limit: int, actor: str
) -> SettledPage:
    """See `FeedStore.redrive`."""
    page, rows = await _take(transaction, which, after, limit)
    await keep_messages(transaction, [row.sequence for row in rows])
    settings = await load_settings(transaction, {row.destination for row in rows})
    parts = {row: lanes.part_of(settings[row.destination], row.sequence) for row in rows if not row.is_replayed}
    places = [
        (LaneKey(row.destination, row.channel_config_id, row.sender, parts.get(row, lanes.REPLAYED)), row.sequence)
        for row in rows
    ]
    await positions.put_in_front(transaction, places)
    await _audit(transaction, "redrive", rows, actor)
    return page


async def discard_dead_letters(
    transaction: Transaction, which: DeadLetterSelection, after: int, limit: int, actor: str
) -> SettledPage:
    """See `FeedStore.discard_dead_letters`."""
    page, rows = await _take(transaction, which, after, limit)
    failed = await find_attempts(transaction, [row.sequence for row in rows])
    await transaction.connection.execute(
        DISCARD,
        [row.sequence for row in rows],
        [row.destination for row in rows],
        [len(failed.get((row.sequence, row.destination), ())) for row in rows],
        transaction.now,
    )
    await _audit(transaction, "dead-letter-discard", rows, actor)
    return page


async def find_attempts(
    transaction: Transaction, sequences: Collection[int]
) -> dict[tuple[int, str], list[DeliveryAttempt]]:
    """Return the failed attempts to deliver messages, oldest first, by message and destination."""
    found: dict[tuple[int, str], list[DeliveryAttempt]] = defaultdict(list)
    rows: list[Any] = await transaction.connection.fetch(FIND_ATTEMPTS, list(sequences))
    for sequence, destination, number, started_at, ended_at, outcome in rows:
        found[sequence, destination].append(DeliveryAttempt(number, started_at, ended_at, AttemptOutcome(outcome)))
    return dict(found)


async def _take(
    transaction: Transaction, which: DeadLetterSelection, after: int, limit: int
) -> tuple[SettledPage, list[_Row]]:
    """Remove a page of dead letters, and return it with those of it that nobody else has settled meanwhile.

    None of their senders can be erased until the end of the transaction.
    """
    if which.keys:
        found = (await _by_key(transaction, which, after))[:limit]
    else:
        found = await _select(transaction, which, after, limit, is_newest_first=False)
    await conversations.share(transaction, {Conversation(row.channel_config_id, row.sender) for row in found})
    locked = {row[0] for row in await transaction.connection.fetch(LOCK, [row.number for row in found])}
    await transaction.connection.execute(FORGET, list(locked))
    rows = [row for row in found if row.number in locked]
    return SettledPage(len(rows), found[-1].number if len(found) == limit else None), rows


async def _select(
    transaction: Transaction, which: DeadLetterSelection, position: int, limit: int, *, is_newest_first: bool
) -> list[_Row]:
    """Return those before or after a number. What isn't asked for isn't in the statement, so indexes serve it."""
    wanted = {"destination": which.destination, "channel_config_id": which.channel_config_id}
    values = {column: value for column, value in wanted.items() if value is not None}
    conditions = "".join(f" AND d.{column} = ${number}" for number, column in enumerate(values, start=3))
    side, order = ("<", "DESC") if is_newest_first else (">", "")
    query = SELECTED.format(side=side, order=order, conditions=conditions)
    rows: list[Any] = await transaction.connection.fetch(query, position, limit, *values.values())
    return [_Row(*row) for row in rows]


async def _by_key(transaction: Transaction, which: DeadLetterSelection, after: int) -> list[_Row]:
    """Return the dead letters of messages, oldest first."""
    channels, sids = [key.channel_config_id for key in which.keys], [key.message_sid for key in which.keys]
    rows: list[Any] = await transaction.connection.fetch(BY_KEY, channels, sids, which.destination, after)
    return [_Row(*row) for row in rows]


async def _audit(transaction: Transaction, action: str, rows: Sequence[_Row], actor: str) -> None:
    for destination, messages in sorted(Counter(row.destination for row in rows).items()):
        await audit.write(transaction, actor, action, destination=destination, messages=messages)
