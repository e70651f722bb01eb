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

FIND_LANE = "SELECT id, head, tail, is_leased FROM lane WHERE destination = ? AND channel_config_id = ? AND sender = ?"

MAKE_LANE = """
INSERT INTO lane (destination, channel_config_id, sender, head, tail, attempts, claims, is_leased, due_at)
VALUES (?, ?, ?, 1, ?, 0, 0, 0, ?) RETURNING id
"""

# What is out keeps its lease and its place: it only gets an earlier position.
MOVE_LEASED = "UPDATE delivery SET position = position - ?2 WHERE lane = ?1 AND position = ?3"

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
    connection = transaction.connection
    count = len(sequences)
    found = connection.execute(FIND_LANE, lane).get
    if found is None:
        lane_id, first = connection.execute(MAKE_LANE, (*lane, count, transaction.now)).get, 1
    else:
        lane_id, head, tail, is_leased = found
        first = _make_room(transaction, lane_id, count, head=head, tail=tail, is_leased=is_leased)
    positions = range(first, first + count)
    connection.executemany(
        "INSERT INTO delivery VALUES (?, ?, ?)",
        [(lane_id, position, sequence) for position, sequence in zip(positions, sequences, strict=True)],
    )
    transaction.ready.add(lane[0])


def _make_room(transaction: Transaction, lane_id: int, count: int, *, head: int, tail: int, is_leased: bool) -> int:
    """Make room for `count` deliveries in a lane, before all but what is out; return the first position."""
    connection = transaction.connection
    if head > tail:
        connection.execute(
            "UPDATE lane SET tail = tail + ?, due_at = ? WHERE id = ?", (count, transaction.now, lane_id)
        )
        return head
    if is_leased:
        connection.execute(MOVE_LEASED, (lane_id, count, head))
        connection.execute("UPDATE lane SET head = head - ? WHERE id = ?", (count, lane_id))
        return head - count + 1
    connection.execute(
        "UPDATE lane SET head = head - ?, attempts = 0, due_at = ? WHERE id = ?", (count, transaction.now, lane_id)
    )
    return head - count


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
