"""The replays' SQL: walks stored messages in order, and queues what is wanted of them at a rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import apsw

from service.models import Replay, ReplayPage, ReplaySelection
from service.store.sqlite import arrivals, audit, lanes
from service.store.sqlite.destinations import settings_of
from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.messages import first_sequence_at
from service.store.sqlite.writer import Transaction

EXAMINED_AT_ONCE = 500
"""How many messages one call looks at for a replay: a few milliseconds, for which ingest waits."""

COUNTED_AT_ONCE = 5000
PARTS_A_SECOND = 10
PAUSE = 5_000
"""Microseconds after such a look, in which the writer serves others."""

MOST_REPLAYS_AT_ONCE = 4
SECOND = 1_000_000

# In the order of the sequences, from after one to another; and whether each is wanted: it went to the destination and
# was settled there, or never went there.
EXAMINE = """
SELECT m.sequence, m.channel_config_id, m.sender, (
  m.hold_reason IS NULL AND m.discarded_at IS NULL
  AND (:channel IS NULL OR m.channel_config_id = :channel)
  AND (:route IS NULL OR m.route_id = :route)
  AND (NOT instr(m.destinations, :destination_in_json)
       OR EXISTS (SELECT 1 FROM settled s WHERE s.message = m.sequence AND s.destination = :destination))
) AS is_wanted
FROM message m {access} WHERE m.sequence > :position AND m.sequence <= :last {conversation}
ORDER BY m.sequence LIMIT :limit
"""

INSERT = """
INSERT INTO replay (replay_id, destination, selection, max_rate, requested_by, started_at, is_cancelled,
                    total, queued, position, last, due_at)
VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0, ?, ?, ?)
ON CONFLICT (replay_id) DO NOTHING
"""

NAMES = (
    *("number", "position", "last", "due_at", "replay_id", "destination", "selection", "max_rate", "requested_by"),
    *("started_at", "ended_at", "total", "queued", "is_cancelled"),
)
COLUMNS = ", ".join(NAMES)

DUE = f"SELECT {COLUMNS} FROM replay WHERE ended_at IS NULL AND due_at <= ? ORDER BY due_at LIMIT ?"

NEXT_DUE = "SELECT min(due_at) FROM replay WHERE ended_at IS NULL"

MOVE_ON = "UPDATE replay SET position = ?, queued = queued + ?, due_at = ?, ended_at = ? WHERE number = ?"

CANCEL = "UPDATE replay SET is_cancelled = 1, ended_at = ? WHERE replay_id = ? AND ended_at IS NULL"


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

    wanted: Sequence[tuple[int, str, str]]
    position: int
    examined: int
    is_last: bool


def count_replay(connection: apsw.Connection, destination: str, selection: ReplaySelection) -> int:
    """See `ReplayStore.count_replay`. In several looks, so that the write-ahead log can be merged between them."""
    position, last = _bounds(connection, selection)
    count, is_last = 0, False
    while not is_last:
        wanted, position, _, is_last = _examine(
            connection, _Scope(destination, selection, position, last), limit=COUNTED_AT_ONCE, most=COUNTED_AT_ONCE
        )
        count += len(wanted)
    return count


def start_replay(transaction: Transaction, replay: Replay, actor: str) -> Replay:
    """See `ReplayStore.start_replay`."""
    connection, selection = transaction.connection, replay.selection
    settings_of(transaction, replay.destination)
    position, last = _bounds(connection, selection)
    connection.execute(
        INSERT,
        (
            *(replay.replay_id, replay.destination, _dump(selection), replay.max_rate, replay.requested_by),
            *(transaction.now, replay.total, position, last, transaction.now),
        ),
    )
    if connection.changes():
        audit.write(transaction, actor, "replay", replay=replay.replay_id, **_details(replay))
    return find_replay(connection, replay.replay_id) or replay


def advance_replays(transaction: Transaction) -> int | None:
    """See `ReplayStore.advance_replays`."""
    connection = transaction.connection
    due = connection.execute(DUE, (transaction.now, MOST_REPLAYS_AT_ONCE)).fetchall()
    for row in due:
        _advance(transaction, _from_row(row))
    next_due_at: int | None = connection.execute(NEXT_DUE).get
    return next_due_at


def find_replay(connection: apsw.Connection, replay_id: str) -> Replay | None:
    """See `ReplayStore.find_replay`."""
    row = connection.execute(f"SELECT {COLUMNS} FROM replay WHERE replay_id = ?", (replay_id,)).fetchone()
    return _from_row(row).replay if row else None


def list_replays(connection: apsw.Connection, before: int | None, limit: int) -> ReplayPage:
    """See `ReplayStore.list_replays`."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM replay WHERE number < ? ORDER BY number DESC LIMIT ?",
        (before or 2**63 - 1, limit + 1),
    ).fetchall()
    page = [_from_row(row) for row in rows[:limit]]
    return ReplayPage([progress.replay for progress in page], page[-1].number if len(rows) > limit else None)


def cancel_replay(transaction: Transaction, replay_id: str, actor: str) -> Replay | None:
    """See `ReplayStore.cancel_replay`."""
    connection = transaction.connection
    connection.execute(CANCEL, (transaction.now, replay_id))
    was_running = connection.changes()
    replay = find_replay(connection, replay_id)
    if replay is not None and was_running:
        audit.write(transaction, actor, "replay-cancel", replay=replay_id, queued=replay.queued, total=replay.total)
    return replay


def _advance(transaction: Transaction, progress: _Progress) -> None:
    replay = progress.replay
    scope = _Scope(replay.destination, replay.selection, progress.position, progress.last)
    limit = max(1, min(replay.max_rate // PARTS_A_SECOND, EXAMINED_AT_ONCE))
    wanted, position, examined, is_last = _examine(transaction.connection, scope, limit=limit, most=EXAMINED_AT_ONCE)
    arriving = [
        (LaneKey(replay.destination, channel_config_id, sender, lanes.REPLAYED), sequence)
        for sequence, channel_config_id, sender in wanted
    ]
    arrivals.append(transaction, arriving)
    # Late by up to a second is made up for; what was missed while the service was down isn't.
    due_at = max(progress.due_at, transaction.now - SECOND) + len(wanted) * SECOND // replay.max_rate
    if examined == EXAMINED_AT_ONCE:
        due_at = max(due_at, transaction.now + PAUSE)
    ended_at = transaction.now if is_last else None
    transaction.connection.execute(MOVE_ON, (position, len(wanted), due_at, ended_at, progress.number))


def _bounds(connection: apsw.Connection, selection: ReplaySelection) -> tuple[int, int]:
    """Return the sequence before the first one of a selection's time, and the last one that is there now."""
    before = first_sequence_at(connection, selection.start_at) - 1 if selection.start_at is not None else 0
    return before, first_sequence_at(connection, selection.end_at) - 1


def _examine(connection: apsw.Connection, scope: _Scope, *, limit: int, most: int) -> _Part:
    """Look at up to `most` messages, in order, until `limit` of them are wanted."""
    wanted: list[tuple[int, str, str]] = []
    position, examined = scope.position, 0
    for sequence, channel_config_id, sender, is_wanted in connection.execute(*_query(scope, most)):
        position, examined = sequence, examined + 1
        if is_wanted:
            wanted.append((sequence, channel_config_id, sender))
        if len(wanted) == limit:
            break
    is_last = position >= scope.last or (examined < most and len(wanted) < limit)
    return _Part(wanted, position, examined, is_last)


def _query(scope: _Scope, limit: int) -> tuple[str, dict[str, Any]]:
    """Return the look along the sequence, or along the index of a conversation, which is in that order too."""
    destination, selection, position, last = scope
    is_conversation = selection.sender is not None
    query = EXAMINE.format(
        access="INDEXED BY message_of_conversation" if is_conversation else "NOT INDEXED",
        conversation="AND m.channel_config_id = :channel AND m.sender = :sender" if is_conversation else "",
    )
    return query, {
        "destination": destination,
        "destination_in_json": json.dumps(destination),
        "channel": selection.channel_config_id,
        "sender": selection.sender,
        "route": selection.route_id,
        "position": position,
        "last": last,
        "limit": limit,
    }


def _from_row(row: tuple[Any, ...]) -> _Progress:
    values = dict(zip(NAMES, row, strict=True))
    number, position, last, due_at = (values.pop(name) for name in ("number", "position", "last", "due_at"))
    selection = ReplaySelection(**json.loads(values.pop("selection")))
    is_cancelled = bool(values.pop("is_cancelled"))
    return _Progress(number, position, last, due_at, Replay(selection=selection, is_cancelled=is_cancelled, **values))


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
