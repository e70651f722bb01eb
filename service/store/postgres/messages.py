"""The messages' SQL: recording an intake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from service.models import (
    Assignment,
    AssignmentReason,
    Conversation,
    Decision,
    MessageKey,
    Recorded,
    RoutedMessage,
)
from service.store.postgres import assignments, conversations, destinations, erasure, lanes
from service.store.postgres.lanes import LaneKey
from service.store.postgres.quarantine import settle_quarantined
from service.store.postgres.session import Outrun, Transaction

COUNTERS = 32
"""In how many rows the transactions that are open together count the messages of a channel."""

# What an intake has to know, in one look.
LOOK = """
SELECT EXISTS (SELECT FROM erased_sender), EXISTS (SELECT FROM assignment),
       ARRAY(SELECT name FROM destination WHERE name = ANY ($1::text[]) AND is_ordered)
"""

# Sequences are given in the order of the intake, rows are stored in the order of their keys: so intakes that bring the
# same messages at once can't deadlock. Destinations come joined, since arrays of arrays have all the same length.
STORE = f"""
WITH item AS (
  SELECT nextval('message_sequence') AS sequence, given.*
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
              $9::bytea[])
    AS given (channel_config_id, message_sid, sender, hold_reason, route_id, route_revision, destinations,
              assignment_reason, payload)
), stored AS (
  INSERT INTO message (sequence, channel_config_id, message_sid, sender, hold_reason, route_id, route_revision,
                       destinations, assignment_reason, payload, committed_at)
  SELECT sequence, channel_config_id, message_sid, sender, hold_reason, route_id, route_revision,
         string_to_array(destinations, ','), assignment_reason, payload, $10::bigint
  FROM item ORDER BY channel_config_id COLLATE "C", message_sid COLLATE "C"
  ON CONFLICT (channel_config_id, message_sid) DO NOTHING
  RETURNING channel_config_id, message_sid, sequence
), counted AS (
  INSERT INTO channel_activity (channel_config_id, counter, last_message_at, messages, recovered, clashes)
  SELECT channel_config_id, pg_backend_pid() % {COUNTERS}, $10, count(*), count(*) FILTER (WHERE $11::boolean), 0
  FROM stored GROUP BY channel_config_id ORDER BY channel_config_id
  ON CONFLICT (channel_config_id, counter) DO UPDATE SET
    last_message_at = greatest(channel_activity.last_message_at, excluded.last_message_at),
    messages = channel_activity.messages + excluded.messages,
    recovered = channel_activity.recovered + excluded.recovered
)
SELECT channel_config_id, message_sid, sequence FROM stored
"""

FIND_SEQUENCES = """
SELECT channel_config_id, message_sid, sequence
FROM message JOIN unnest($1::text[], $2::text[]) AS wanted (channel_config_id, message_sid)
  USING (channel_config_id, message_sid)
"""


class _Ground(NamedTuple):
    """What was known when an intake came in: when senders were erased, where conversations stay, what is in order."""

    erased_at: Mapping[Conversation, int]
    assignments: dict[Conversation, Assignment]
    ordered: set[str]

    def lets_in(self, routed: RoutedMessage) -> bool:
        """Whether its sender wasn't erased since the message was received."""
        erased_at = self.erased_at.get(_conversation(routed))
        return erased_at is None or routed.message.received_at > erased_at


async def record(
    transaction: Transaction, intake: Sequence[RoutedMessage], is_recovered: bool, quarantine_entry_id: str
) -> list[Recorded]:
    """See `MessageStore.record`."""
    ground = await _prepare(transaction, intake)
    wanted: dict[MessageKey, RoutedMessage] = {}
    for routed in intake:
        if ground.lets_in(routed):
            wanted.setdefault(_key(routed), routed)
    stored, known = await _store_new(transaction, ground, wanted, is_recovered)
    transaction.answers_by_others = bool(known)
    if quarantine_entry_id:
        await settle_quarantined(transaction, [quarantine_entry_id])
    dropped = Counter(routed.message.channel_config_id for routed in intake if not ground.lets_in(routed))
    for channel, count in dropped.items():
        await erasure.note_dropped(transaction, channel, count)
    return _tell(intake, ground, stored, known)


async def _prepare(transaction: Transaction, intake: Sequence[RoutedMessage]) -> _Ground:
    """Keep the conversations as they are until the commit, and look at them."""
    brought = {_conversation(routed) for routed in intake}
    # Where these stay, one message after the other decides.
    staying = {_conversation(routed) for routed in intake if routed.decision.affinity_seconds}
    await conversations.share(transaction, brought, alone=staying)
    names = {name for routed in intake for name in routed.decision.destinations}
    row: Any = await transaction.connection.fetchrow(LOOK, list(names))
    is_anybody_erased, is_any_assigned, ordered = row
    return _Ground(
        await erasure.find_erased(transaction, brought) if is_anybody_erased else {},
        await assignments.find_all(transaction, brought) if is_any_assigned else {},
        set(ordered),
    )


async def _store_new(
    transaction: Transaction, ground: _Ground, wanted: Mapping[MessageKey, RoutedMessage], is_recovered: bool
) -> tuple[dict[MessageKey, int], dict[MessageKey, int]]:
    """Store the messages that are new, with their deliveries; return the sequences of those, and of the others."""
    # What is a duplicate makes no conversation stay anywhere: then it has to be known first.
    has_affinity = any(routed.decision.affinity_seconds for routed in wanted.values())
    known = await _find_sequences(transaction, wanted) if has_affinity else {}
    new = {key: routed for key, routed in wanted.items() if key not in known}
    decisions, staying = _decide(transaction.now, ground, new)
    stored = await _store(transaction, new, decisions, is_recovered)
    repeated = new.keys() - stored.keys()
    if repeated:
        known |= await _find_sequences(transaction, repeated)
    if (repeated and has_affinity) or len(known) + len(stored) < len(wanted):
        raise Outrun  # somebody has stored or removed one meanwhile
    places = [
        (LaneKey(name, *_conversation(new[key]), lanes.OWN), stored[key])
        for key, decision in decisions.items()
        if key in stored and decision.hold_reason is None
        for name in decision.destinations
    ]
    await _deliver(transaction, places, ground.ordered)
    if staying:
        await assignments.keep_affinity(transaction, staying)
    return stored, known


def _decide(
    now: int, ground: _Ground, new: Mapping[MessageKey, RoutedMessage]
) -> tuple[dict[MessageKey, Decision], dict[Conversation, Decision]]:
    """Return the decisions that are in force, and those that make conversations stay; each follows those before it."""
    decisions: dict[MessageKey, Decision] = {}
    staying: dict[Conversation, Decision] = {}
    for key, routed in new.items():
        conversation = _conversation(routed)
        assignment = ground.assignments.get(conversation)
        decision = decisions[key] = assignments.apply(routed.decision, assignment)
        if decision.hold_reason is None and decision.affinity_seconds and decision.destinations:
            staying[conversation] = decision
            if assignment is None or assignment.reason is AssignmentReason.AFFINITY:
                expires_at = now + decision.affinity_seconds * 1_000_000
                kept = Assignment(decision.destinations[0], now, expires_at, AssignmentReason.AFFINITY)
                ground.assignments[conversation] = kept
    return decisions, staying


async def _store(
    transaction: Transaction,
    new: Mapping[MessageKey, RoutedMessage],
    decisions: Mapping[MessageKey, Decision],
    is_recovered: bool,
) -> dict[MessageKey, int]:
    """Store messages whose key isn't known, and count them; return their sequences."""
    rows = [
        (
            *key,
            new[key].message.sender,
            decision.hold_reason,
            decision.route_id,
            decision.route_revision,
            ",".join(decision.destinations),
            decision.assignment_reason,
            new[key].message.payload,
        )
        for key, decision in decisions.items()
    ]
    if not rows:
        return {}
    columns = zip(*rows, strict=True)
    found = await transaction.connection.fetch(STORE, *columns, transaction.now, is_recovered)
    return {MessageKey(channel, sid): sequence for channel, sid, sequence in found}


async def _find_sequences(transaction: Transaction, keys: Collection[MessageKey]) -> dict[MessageKey, int]:
    found = await transaction.connection.fetch(
        FIND_SEQUENCES, [key.channel_config_id for key in keys], [key.message_sid for key in keys]
    )
    return {MessageKey(channel, sid): sequence for channel, sid, sequence in found}


async def _deliver(transaction: Transaction, places: Sequence[tuple[LaneKey, int]], ordered: Collection[str]) -> None:
    """Queue messages in these lanes of their conversations, but where they needn't be in order."""
    others = {key.destination for key, _ in places}.difference(ordered)
    settings = await destinations.load_settings(transaction, others) if others else {}
    await lanes.append(
        transaction,
        [
            (key._replace(part=lanes.part_of(settings[key.destination], sequence)), sequence)
            if key.destination in others
            else (key, sequence)
            for key, sequence in places
        ],
    )


def _tell(
    intake: Sequence[RoutedMessage],
    ground: _Ground,
    stored: Mapping[MessageKey, int],
    known: Mapping[MessageKey, int],
) -> list[Recorded]:
    """Say what became of each message; of those with one key, the first one is stored."""
    told: list[Recorded] = []
    seen: set[MessageKey] = set()
    for routed in intake:
        key = _key(routed)
        if not ground.lets_in(routed):
            told.append(Recorded(0, is_erased=True))
        elif key in stored:
            told.append(Recorded(stored[key], is_duplicate=key in seen))
            seen.add(key)
        else:
            told.append(Recorded(known[key], is_duplicate=True))
    return told


def _key(routed: RoutedMessage) -> MessageKey:
    return MessageKey(routed.message.channel_config_id, routed.message.message_sid)


def _conversation(routed: RoutedMessage) -> Conversation:
    return Conversation(routed.message.channel_config_id, routed.message.sender)
