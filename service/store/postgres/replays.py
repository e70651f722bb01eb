"""The replays' SQL: walks stored messages in order, and queues what is wanted of them at a rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from service.models import Conversation, Replay, ReplayPage, ReplaySelection
from service.store.postgres import audit, conversations, lanes
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import LaneKey
from service.store.postgres.removal import keep_messages
from service.store.postgres.session import Sessions, Transaction
from service.store.postgres.spans import Span, find_span

EXAMINED_AT_ONCE = 500
"""How many messages one call looks at for a replay."""

COUNTED_AT_ONCE = 20_000
"""How many messages one look counts: a small part of the time that it may take."""

PARTS_A_SECOND = 10
PAUSE = 5_000
"""Microseconds after such a call, in which the database serves others."""

MOST_REPLAYS_AT_ONCE = 4
SECOND = 1_000_000
LAST_NUMBER = 2**63 - 1

# In the order of the sequences, from after one to another; and whether each is wanted: it went to the destination and
# was settled there, or never went there. $1 to $7 are what a selection says.
EXAMINE = """
SELECT m.sequence, m.channel_config_id, m.sender, (
  m.hold_reason IS NULL AND m.discarded_at IS NULL
  AND ($2::text IS NULL OR m.channel_config_id = $2) AND ($3::text IS NULL OR m.sender = $3)
  AND ($4::text IS NULL OR m.route_id = $4)
  AND ($5::bigint IS NULL OR m.committed_at >= $5) AND ($6::bigint IS NULL OR m.committed_at < $6)
  AND ($1::text <> ALL (m.destinations)
       OR EXISTS (SELECT FROM settled s WHERE s.message = m.sequence AND s.destination = $1))
) AS is_wanted
FROM message m WHERE m.sequence > $7 AND m.sequence <= $8 {conversation} ORDER BY m.sequence LIMIT $9
"""

OF_A_CONVERSATION = "AND m.channel_config_id = $2 AND m.sender = $3"

COUNT = "SELECT count(*), max(e.sequence), count(*) FILTER (WHERE is_wanted) FROM ({examine}) AS e"

INSERT = """
INSERT INTO replay (replay_id, destination, selection, max_rate, requested_by, started_at, total, position, last,
                    due_at)
VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $9, $6)
ON CONFLICT (replay_id) DO NOTHING
"""

NAMES = (
    *("number", "position", "last", "due_at", "replay_id", "destination", "selection", "max_rate", "requested_by"),
    *("started_at", "ended_at", "total", "queued", "is_cancelled"),
)
COLUMNS = ", ".join(NAMES).replace("selection", "selection::text")

FIND = f"SELECT {COLUMNS} FROM replay WHERE replay_id = $1"

LIST = f"SELECT {COLUMNS} FROM replay WHERE number < $1 ORDER BY number DESC LIMIT $2"

# Of several processes, each advances others.
DUE = f"""
SELECT {COLUMNS} FROM replay WHERE ended_at IS NULL AND due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""

NEXT_DUE = "SELECT min(due_at) FROM replay WHERE ended_at IS NULL"

MOVE_ON = "UPDATE replay SET position = $2, queued = queued + $3, due_at = $4, ended_at = $5 WHERE number = $1"

CANCEL = "UPDATE replay SET is_cancelled = true, ended_at = $2 WHERE replay_id = $1 AND ended_at IS NULL"


class _Scope(NamedTuple):
    """What is left to look at: messages after `position`, none after `last`."""

    destination: str
    selection: ReplaySelection
    position: int
    last: int


class _Progress(NamedTuple):
    """A replay as its row has it."""

    number: int
    position: int
    last: int
    due_at: int
    replay: Replay


class _Part(NamedTuple):
    """What one look found, how far it went, after how many messages, and whether nothing is left after it."""

    wanted: Sequence[tuple[int, Conversation]]
    position: int
    examined: int
    is_last: bool


async def count_replay(sessions: Sessions, destination: str, selection: ReplaySelection) -> int:
    """See `ReplayStore.count_replay`. In several looks, none of which takes long."""

    async def find(transaction: Transaction) -> Span:
        return await find_span(transaction, selection.start_at, selection.end_at)

    first, before = await sessions.report(find)
    count, position = 0, first - 1
    while position < before - 1:
        scope = _Scope(destination, selection, position, before - 1)
        position, wanted = await sessions.report(partial(_count, scope=scope))
        count += wanted
    return count


async def start_replay(transaction: Transaction, replay: Replay, actor: str) -> Replay:
    """See `ReplayStore.start_replay`. What is being stored just then may be replayed or not."""
    connection, selection = transaction.connection, replay.selection
    await load_settings(transaction, [replay.destination])
    first, before = await find_span(transaction, selection.start_at, selection.end_at)
    done = await connection.execute(
        INSERT,
        *(replay.replay_id, replay.destination, _dump(selection), replay.max_rate, replay.requested_by),
        *(transaction.now, replay.total, first - 1, before - 1),
    )
    if done == "INSERT 0 1":
        await audit.write(transaction, actor, "replay", replay=replay.replay_id, **_details(replay))
    return await find_replay(transaction, replay.replay_id) or replay


async def advance_replays(transaction: Transaction) -> int | None:
    """See `ReplayStore.advance_replays`."""
    connection = transaction.connection
    due = [_from_row(row) for row in await connection.fetch(DUE, transaction.now, MOST_REPLAYS_AT_ONCE)]
    parts = [(progress, await _find_part(transaction, progress)) for progress in due]
    if wanted := [(progress.replay, each) for progress, part in parts for each in part.wanted]:
        await _queue(transaction, wanted)
    for progress, part in parts:
        await _move_on(transaction, progress, part)
    next_due_at: int | None = await connection.fetchval(NEXT_DUE)
    return next_due_at


async def find_replay(transaction: Transaction, replay_id: str) -> Replay | None:
    """See `ReplayStore.find_replay`."""
    row = await transaction.connection.fetchrow(FIND, replay_id)
    return _from_row(row).replay if row else None


async def list_replays(transaction: Transaction, before: int | None, limit: int) -> ReplayPage:
    """See `ReplayStore.list_replays`."""
    rows = await transaction.connection.fetch(LIST, before or LAST_NUMBER, limit + 1)
    page = [_from_row(row) for row in rows[:limit]]
    return ReplayPage([progress.replay for progress in page], page[-1].number if len(rows) > limit else None)


async def cancel_replay(transaction: Transaction, replay_id: str, actor: str) -> Replay | None:
    """See `ReplayStore.cancel_replay`."""
    done = await transaction.connection.execute(CANCEL, replay_id, transaction.now)
    replay = await find_replay(transaction, replay_id)
    if replay is not None and done == "UPDATE 1":
        await audit.write(
            transaction, actor, "replay-cancel", replay=replay_id, queued=replay.queued, total=replay.total
        )
    return replay


async def _find_part(transaction: Transaction, progress: _Progress) -> _Part:
    """Look at some messages, in order, until as many are wanted as the rate lets through at once."""
    replay = progress.replay
    scope = _Scope(replay.destination, replay.selection, progress.position, progress.last)
    limit = max(1, min(replay.max_rate // PARTS_A_SECOND, EXAMINED_AT_ONCE))
    wanted: list[tuple[int, Conversation]] = []
    position, examined = scope.position, 0
    rows: list[Any] = await transaction.connection.fetch(_query(scope), *_bindings(scope, EXAMINED_AT_ONCE))
    for sequence, channel_config_id, sender, is_wanted in rows:
        position, examined = sequence, examined + 1
        if is_wanted:
            wanted.append((sequence, Conversation(channel_config_id, sender)))
        if len(wanted) == limit:
            break
    is_last = position >= scope.last or (examined < EXAMINED_AT_ONCE and len(wanted) < limit)
    return _Part(wanted, position, examined, is_last)


async def _queue(transaction: Transaction, wanted: Sequence[tuple[Replay, tuple[int, Conversation]]]) -> None:
    """Queue messages, but for those that are removed or erased meanwhile."""
    await conversations.share(transaction, {conversation for _, (_, conversation) in wanted})
    there = await keep_messages(transaction, {sequence for _, (sequence, _) in wanted})
    places = [
        (LaneKey(replay.destination, *conversation, lanes.REPLAYED), sequence)
        for replay, (sequence, conversation) in wanted
        if sequence in there
    ]
    await lanes.append(transaction, places)


async def _move_on(transaction: Transaction, progress: _Progress, part: _Part) -> None:
    # Late by up to a second is made up for; what was missed while the service was down isn't.
    queued = len(part.wanted)
    due_at = max(progress.due_at, transaction.now - SECOND) + queued * SECOND // progress.replay.max_rate
    if part.examined == EXAMINED_AT_ONCE:
        due_at = max(due_at, transaction.now + PAUSE)
    ended_at = transaction.now if part.is_last else None
    await transaction.connection.execute(MOVE_ON, progress.number, part.position, queued, due_at, ended_at)


async def _count(transaction: Transaction, scope: _Scope) -> tuple[int, int]:
    """Return how far a look went, and how many messages it wants."""
    query = COUNT.format(examine=_query(scope))
    row: Any = await transaction.connection.fetchrow(query, *_bindings(scope, COUNTED_AT_ONCE))
    examined, position, wanted = row
    return position if examined == COUNTED_AT_ONCE else scope.last, wanted


def _query(scope: _Scope) -> str:
    """Return the look along the sequence, or along the index of a conversation, which is in that order too."""
    return EXAMINE.format(conversation=OF_A_CONVERSATION if scope.selection.sender is not None else "")


def _bindings(scope: _Scope, limit: int) -> tuple[object, ...]:
    destination, selection, position, last = scope
    return (
        *(destination, selection.channel_config_id, selection.sender, selection.route_id),
        *(selection.start_at, selection.end_at, position, last, limit),
    )


def _from_row(row: Any) -> _Progress:
    values = dict(zip(NAMES, row, strict=True))
    number, position, last, due_at = (values.pop(name) for name in ("number", "position", "last", "due_at"))
    selection = ReplaySelection(**json.loads(values.pop("selection")))
    return _Progress(number, position, last, due_at, Replay(selection=selection, **values))


def _dump(selection: ReplaySelection) -> str:
    return json.dumps({name: value for name, value in asdict(selection).items() if value is not None})


def _details(replay: Replay) -> dict[str, object]:
    """Return what the audit tells of a replay: a sender shortened, and no time, which the replay itself has."""
    selection = replay.selection
    details: dict[str, object] = {"destination": replay.destination, "messages": replay.total}
    if selection.channel_config_id is not None:
        details["channel"] = selection.channel_config_id
    if selection.sender is not None:
        details["sender"] = audit.shorten(selection.sender)
    if selection.route_id is not None:
        details["route"] = selection.route_id
    return details
