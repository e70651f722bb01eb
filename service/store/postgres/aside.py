"""The SQL of what waits for an operator: held messages and clashes, and how the store stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from service.models import ChannelActivity, Clash, Conversation, Decision, HeldMessage, HeldSelection, Release, Summary
from service.store.postgres import assignments, audit, conversations, lanes, positions
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import LaneKey
from service.store.postgres.messages import COUNTERS
from service.store.postgres.session import Transaction

MOST_CLASHES = 10

HELD = """
SELECT sequence, channel_config_id, payload FROM message
WHERE hold_reason IS NOT NULL AND sequence > $1{conditions} ORDER BY sequence LIMIT $2
"""

CONVERSATIONS = """
SELECT DISTINCT channel_config_id, sender FROM message WHERE sequence = ANY ($1::bigint[]) AND hold_reason IS NOT NULL
"""

# In their order, so that two who settle the same ones wait for each other in one direction.
LOCK_HELD = """
SELECT sequence, channel_config_id, sender FROM message
WHERE sequence = ANY ($1::bigint[]) AND hold_reason IS NOT NULL ORDER BY sequence FOR UPDATE
"""

DECIDE = """
UPDATE message m SET hold_reason = d.hold_reason, route_id = d.route_id, route_revision = d.route_revision,
                     destinations = string_to_array(d.destinations, ','), assignment_reason = d.assignment_reason
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[])
  AS d (sequence, hold_reason, route_id, route_revision, destinations, assignment_reason)
WHERE m.sequence = d.sequence
"""

DISCARD = "UPDATE message SET hold_reason = NULL, discarded_at = $1 WHERE sequence = ANY ($2::bigint[])"

# Others that came with its id wait, and then see what was kept.
LOCK_ORIGINAL = "SELECT channel_config_id FROM message WHERE sequence = $1 FOR NO KEY UPDATE"

KEEP_CLASH = f"""
WITH kept AS (
  INSERT INTO clash (message, fingerprint, committed_at, payload)
  SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM clash WHERE message = $1) < {MOST_CLASHES}
  ON CONFLICT (message, fingerprint) DO NOTHING
)
INSERT INTO channel_activity AS a (channel_config_id, counter, messages, recovered, clashes)
VALUES ($5, pg_backend_pid() % {COUNTERS}, 0, 0, 1)
ON CONFLICT (channel_config_id, counter) DO UPDATE SET clashes = a.clashes + 1
"""

ACTIVITY = """
SELECT channel_config_id, max(last_message_at), sum(messages)::bigint, sum(recovered)::bigint, sum(clashes)::bigint
FROM channel_activity GROUP BY channel_config_id ORDER BY channel_config_id LIMIT $1
"""


async def find_held(
    transaction: Transaction, which: HeldSelection, after: int, limit: int, *, until: int | None
) -> list[HeldMessage]:
    """See `AsideStore.find_held`. None above `until`, where transactions that are open may still store some."""
    bindings: list[object] = [after, limit]
    conditions = "".join(_conditions(which, until, bindings))
    rows: list[Any] = await transaction.connection.fetch(HELD.format(conditions=conditions), *bindings)
    return [HeldMessage(*row) for row in rows]


def _conditions(which: HeldSelection, until: int | None, bindings: list[object]) -> Iterator[str]:
    """Yield what else must hold, and add what it is bound to. What holds for everything would hide the indexes."""
    if which.keys:
        bindings += [[key.channel_config_id for key in which.keys], [key.message_sid for key in which.keys]]
        yield " AND (channel_config_id, message_sid) IN (SELECT * FROM unnest($3::text[], $4::text[]))"
        return
    for condition, value in (
        ("sequence <=", until),
        ("channel_config_id =", which.channel_config_id),
        ("hold_reason =", which.hold_reason),
    ):
        if value is not None:
            bindings.append(value)
            yield f" AND {condition} ${len(bindings)}"


async def release(transaction: Transaction, releases: Sequence[Release], actor: str) -> dict[int, Decision]:
    """See `AsideStore.release`. None of the conversations is assigned or erased until the end of the transaction."""
    wanted = {each.sequence: each for each in releases}
    rows: list[Any] = await transaction.connection.fetch(CONVERSATIONS, list(wanted))
    brought = {Conversation(*row) for row in rows}
    await conversations.share(transaction, brought)
    found = await assignments.find_all(transaction, brought)
    held: list[Any] = await transaction.connection.fetch(LOCK_HELD, list(wanted))
    decisions = {
        sequence: assignments.decide(wanted[sequence], found.get(Conversation(channel_config_id, sender)))
        for sequence, channel_config_id, sender in held
    }
    await transaction.connection.execute(DECIDE, *_to_columns(decisions.items()))
    released = {sequence: decision for sequence, decision in decisions.items() if decision.hold_reason is None}
    await _deliver(transaction, [(*row, released[row[0]]) for row in held if row[0] in released])
    await _audit(transaction, actor, "release", len(released))
    return released


async def _deliver(transaction: Transaction, released: Sequence[tuple[int, str, str, Decision]]) -> None:
    """Put messages in front where they go: sequence, channel, sender, decision."""
    settings = await load_settings(transaction, {name for *_, decision in released for name in decision.destinations})
    await positions.put_in_front(
        transaction,
        [
            (LaneKey(name, channel_config_id, sender, lanes.part_of(settings[name], sequence)), sequence)
            for sequence, channel_config_id, sender, decision in released
            for name in decision.destinations
        ],
    )


def _to_columns(decided: Iterable[tuple[int, Decision]]) -> list[list[object]]:
    rows = [
        (
            sequence,
            decision.hold_reason,
            decision.route_id,
            decision.route_revision,
            ",".join(decision.destinations),
            decision.assignment_reason,
        )
        for sequence, decision in decided
    ]
    return [[row[column] for row in rows] for column in range(6)]


async def discard(transaction: Transaction, sequences: Sequence[int], actor: str) -> int:
    """See `AsideStore.discard`."""
    held: list[Any] = await transaction.connection.fetch(LOCK_HELD, sequences)
    await transaction.connection.execute(DISCARD, transaction.now, [row["sequence"] for row in held])
    await _audit(transaction, actor, "held-discard", len(held))
    return len(held)


async def _audit(transaction: Transaction, actor: str, action: str, messages: int) -> None:
    if messages:
        await audit.write(transaction, actor, action, messages=messages)


async def load_payloads(transaction: Transaction, sequences: Collection[int]) -> dict[int, bytes]:
    """See `AsideStore.load_payloads`."""
    rows: list[Any] = await transaction.connection.fetch(
        "SELECT sequence, payload FROM message WHERE sequence = ANY ($1::bigint[])", list(sequences)
    )
    return dict(tuple(row) for row in rows)


async def keep_clash(transaction: Transaction, sequence: int, fingerprint: bytes, payload: bytes) -> None:
    """See `AsideStore.keep_clash`."""
    channel_config_id = await transaction.connection.fetchval(LOCK_ORIGINAL, sequence)
    if channel_config_id is not None:
        await transaction.connection.execute(
            KEEP_CLASH, sequence, fingerprint, transaction.now, payload, channel_config_id
        )


async def find_clashes(transaction: Transaction, sequence: int) -> list[Clash]:
    """See `AsideStore.find_clashes`."""
    rows: list[Any] = await transaction.connection.fetch(
        "SELECT payload, committed_at FROM clash WHERE message = $1 ORDER BY committed_at", sequence
    )
    return [Clash(*row) for row in rows]


async def load_summary(transaction: Transaction, most_channels: int) -> Summary:
    """See `AsideStore.load_summary`."""
    connection = transaction.connection
    held = await connection.fetchval("SELECT count(*) FROM message WHERE hold_reason IS NOT NULL")
    quarantined = await connection.fetchval("SELECT count(*) FROM quarantine WHERE settled_at IS NULL")
    channels: list[Any] = await connection.fetch(ACTIVITY, most_channels)
    return Summary(held, quarantined, [ChannelActivity(*row) for row in channels])
