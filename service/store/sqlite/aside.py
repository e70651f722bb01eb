"""The SQL of what waits for an operator: held messages and clashes, and how the store stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import apsw

from service.models import ChannelActivity, Clash, Conversation, Decision, HeldMessage, HeldSelection, Release, Summary
from service.store.routes_json import dump_names
from service.store.sqlite import assignments, audit, lanes
from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.schema import one_moment
from service.store.sqlite.writer import Transaction

MOST_CLASHES = 10

HELD = "sequence, channel_config_id, payload FROM message WHERE hold_reason IS NOT NULL AND sequence > ?"

FIND = "SELECT channel_config_id, sender FROM message WHERE sequence = ? AND hold_reason IS NOT NULL"

DECIDE = """
UPDATE message SET hold_reason = ?, route_id = ?, route_revision = ?, destinations = ?, assignment_reason = ?
WHERE sequence = ?
"""

DISCARD = "UPDATE message SET hold_reason = NULL, discarded_at = ? WHERE sequence = ? AND hold_reason IS NOT NULL"

KEEP_CLASH = """
INSERT INTO clash SELECT ?1, ?2, ?3, ?4 WHERE (SELECT count(*) FROM clash WHERE message = ?1) < ?5
ON CONFLICT (message, fingerprint) DO NOTHING
"""

COUNT_CLASH = """
UPDATE channel_activity SET clashes = clashes + 1
WHERE channel_config_id = (SELECT channel_config_id FROM message WHERE sequence = ?)
"""


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


def release(transaction: Transaction, releases: Sequence[Release], actor: str) -> dict[int, Decision]:
    """See `AsideStore.release`."""
    places: list[tuple[LaneKey, int]] = []
    released: dict[int, Decision] = {}
    for each in sorted(releases, key=lambda entry: entry.sequence):
        sequence = each.sequence
        row: Any = transaction.connection.execute(FIND, (sequence,)).fetchone()
        if row is None:
            continue
        conversation = Conversation(*row)
        decision = assignments.decide(transaction, conversation, each)
        transaction.connection.execute(DECIDE, (*_to_row(decision), sequence))
        if decision.hold_reason is None:
            released[sequence] = decision
            places += [
                (LaneKey(name, *conversation, lanes.part_of(transaction, name, sequence)), sequence)
                for name in decision.destinations
            ]
    for key, group in groupby(sorted(places), key=lambda place: place[0]):
        lanes.put_in_front(transaction, key, [sequence for _, sequence in group])
    _audit(transaction, actor, "release", len(released))
    return released


def _to_row(decision: Decision) -> tuple[str | int | None, ...]:
    return (
        decision.hold_reason,
        decision.route_id,
        decision.route_revision,
        dump_names(decision.destinations),
        decision.assignment_reason,
    )


def discard(transaction: Transaction, sequences: Sequence[int], actor: str) -> int:
    """See `AsideStore.discard`."""
    discarded = 0
    for sequence in sequences:
        transaction.connection.execute(DISCARD, (transaction.now, sequence))
        discarded += transaction.connection.changes()
    _audit(transaction, actor, "held-discard", discarded)
    return discarded


def _audit(transaction: Transaction, actor: str, action: str, messages: int) -> None:
    if messages:
        audit.write(transaction, actor, action, messages=messages)


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
