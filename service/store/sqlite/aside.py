"""The SQL of what waits for an operator: held messages and clashes, and how the store stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import apsw

from service.models import ChannelActivity, Clash, HeldMessage, HeldSelection, Release, Summary
from service.store.routes_json import dump_names
from service.store.sqlite.schema import one_moment
from service.store.sqlite.writer import Transaction

MOST_CLASHES = 10

HELD = "sequence, channel_config_id, payload FROM message WHERE hold_reason IS NOT NULL AND sequence > ?"

DECIDE = """
UPDATE message SET hold_reason = ?, route_id = ?, route_revision = ?, destinations = ?
WHERE sequence = ? AND hold_reason IS NOT NULL RETURNING channel_config_id, sender
"""

DISCARD = "UPDATE message SET hold_reason = NULL, discarded_at = ? WHERE sequence = ? AND hold_reason IS NOT NULL"

FIND_LANE = """
SELECT id, head, tail, is_leased, front FROM lane WHERE destination = ? AND channel_config_id = ? AND sender = ?
"""

MAKE_LANE = """
INSERT INTO lane (destination, channel_config_id, sender, head, tail, front, attempts, claims, is_leased, due_at)
VALUES (?, ?, ?, 1, ?, ?, 0, 0, 0, ?) RETURNING id
"""

REFILL = "UPDATE lane SET tail = ?, front = ?, due_at = ? WHERE id = ?"

# Those that earlier releases put in front and that are not out: few, or many only where many were released.
TAKE_FRONT = "DELETE FROM delivery WHERE lane = ? AND position BETWEEN ? AND ? RETURNING message"

# What is out keeps its lease: it only gets an earlier position.
MOVE_LEASED = "UPDATE delivery SET position = ? WHERE lane = ? AND position = ?"

SET_FRONT = "UPDATE lane SET head = ?, front = ? WHERE id = ?"

SET_FRONT_READY = "UPDATE lane SET head = ?, front = ?, attempts = 0, due_at = ? WHERE id = ?"

KEEP_CLASH = """
INSERT INTO clash SELECT ?1, ?2, ?3, ?4 WHERE (SELECT count(*) FROM clash WHERE message = ?1) < ?5
ON CONFLICT (message, fingerprint) DO NOTHING
"""

COUNT_CLASH = """
UPDATE channel_activity SET clashes = clashes + 1
WHERE channel_config_id = (SELECT channel_config_id FROM message WHERE sequence = ?)
"""


class _Place(NamedTuple):
    """One released message in one destination."""

    destination: str
    channel_config_id: str
    sender: str
    sequence: int


def find_held(connection: apsw.Connection, which: HeldSelection, after: int, limit: int) -> list[HeldMessage]:
    """See `AsideStore.find_held`."""
    if which.keys:
        rows = (
            connection.execute(f"SELECT {HELD} AND channel_config_id = ? AND message_sid = ?", (after, *key)).fetchone()
            for key in which.keys
        )
        return sorted(HeldMessage(*row) for row in rows if row)[:limit]
    found = connection.execute(
        f"SELECT {HELD} AND (?2 IS NULL OR channel_config_id = ?2) AND (?3 IS NULL OR hold_reason = ?3) "
        "ORDER BY sequence LIMIT ?4",
        (after, which.channel_config_id, which.hold_reason, limit),
    )
    return [HeldMessage(*row) for row in found]


def release(transaction: Transaction, releases: Sequence[Release]) -> int:
    """See `AsideStore.release`."""
    places: list[_Place] = []
    released = 0
    for sequence, decision in sorted(releases):
        conversation = transaction.connection.execute(
            DECIDE,
            (
                decision.hold_reason,
                decision.route_id,
                decision.route_revision,
                dump_names(decision.destinations),
                sequence,
            ),
        ).get
        if conversation and decision.hold_reason is None:
            released += 1
            channel_config_id, sender = conversation
            places += [_Place(name, channel_config_id, sender, sequence) for name in decision.destinations]
    for lane, group in groupby(sorted(places), key=lambda place: place[:3]):
        _put_in_front(transaction, lane, [place.sequence for place in group])
    return released


def _put_in_front(transaction: Transaction, lane: tuple[str, str, str], sequences: Sequence[int]) -> None:
    """Put messages before what is not delivered yet: in order with those that an earlier release put there."""
    connection = transaction.connection
    transaction.ready.add(lane[0])
    found = connection.execute(FIND_LANE, lane).get
    if found is None:
        lane_id = connection.execute(MAKE_LANE, (*lane, len(sequences), len(sequences), transaction.now)).get
        _insert(connection, lane_id, 1, sequences)
        return
    lane_id, head, tail, is_leased, front = found
    if head > tail:
        last = head + len(sequences) - 1
        connection.execute(REFILL, (last, last, transaction.now, lane_id))
        _insert(connection, lane_id, head, sequences)
        return
    first = head + is_leased
    last = first - 1 if front is None else max(front, first - 1)
    merged = sorted([*sequences, *(row[0] for row in connection.execute(TAKE_FRONT, (lane_id, first, last)))])
    start = last + 1 - len(merged)
    if is_leased:
        connection.execute(MOVE_LEASED, (start - 1, lane_id, head))
        connection.execute(SET_FRONT, (start - 1, last, lane_id))
    else:
        connection.execute(SET_FRONT_READY, (start, last, transaction.now, lane_id))
    _insert(connection, lane_id, start, merged)


def _insert(connection: apsw.Connection, lane_id: int, start: int, sequences: Sequence[int]) -> None:
    connection.executemany(
        "INSERT INTO delivery VALUES (?, ?, ?)",
        [(lane_id, position, sequence) for position, sequence in enumerate(sequences, start)],
    )


def discard(transaction: Transaction, sequences: Sequence[int]) -> int:
    """See `AsideStore.discard`."""
    discarded = 0
    for sequence in sequences:
        transaction.connection.execute(DISCARD, (transaction.now, sequence))
        discarded += transaction.connection.changes()
    return discarded


def load_payloads(connection: apsw.Connection, sequences: Collection[int]) -> dict[int, bytes]:
    """See `AsideStore.load_payloads`."""
    return dict(_payloads(connection, sequences))


def _payloads(connection: apsw.Connection, sequences: Collection[int]) -> Iterator[tuple[int, bytes]]:
    for sequence in sequences:
        payload = connection.execute("SELECT payload FROM message WHERE sequence = ?", (sequence,)).get
        if payload is not None:
            yield sequence, payload


def keep_clash(transaction: Transaction, sequence: int, fingerprint: bytes, payload: bytes) -> None:
    """See `AsideStore.keep_clash`."""
    transaction.connection.execute(KEEP_CLASH, (sequence, fingerprint, transaction.now, payload, MOST_CLASHES))
    transaction.connection.execute(COUNT_CLASH, (sequence,))


def find_clashes(connection: apsw.Connection, sequence: int) -> list[Clash]:
    """See `AsideStore.find_clashes`."""
    rows = connection.execute(
        "SELECT payload, committed_at FROM clash WHERE message = ? ORDER BY committed_at", (sequence,)
    )
    return [Clash(*row) for row in rows]


def load_summary(connection: apsw.Connection, most_channels: int) -> Summary:
    """See `AsideStore.load_summary`."""
    with one_moment(connection):
        held = connection.execute("SELECT count(*) FROM message WHERE hold_reason IS NOT NULL").get
        quarantined = connection.execute("SELECT count(*) FROM quarantine WHERE settled_at IS NULL").get
        channels = connection.execute(
            "SELECT channel_config_id, last_message_at, messages, recovered, clashes FROM channel_activity "
            "ORDER BY channel_config_id LIMIT ?",
            (most_channels,),
        )
        return Summary(held, quarantined, [ChannelActivity(*row) for row in channels])
