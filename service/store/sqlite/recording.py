"""Recording: an intake becomes messages and deliveries, in a few statements for all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from service.models import Conversation, Decision, Recorded, RoutedMessage
from service.store.routes_json import dump_names
from service.store.sqlite import arrivals, assignments, erasure, lanes
from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.many_rows import ManyRows
from service.store.sqlite.quarantine import settle_quarantined
from service.store.sqlite.writer import Transaction

INSERT_MESSAGES = ManyRows(
    """
INSERT INTO message (sequence, channel_config_id, message_sid, sender, committed_at, hold_reason,
                     route_id, route_revision, destinations, assignment_reason, payload)
VALUES ?
ON CONFLICT (channel_config_id, message_sid) DO NOTHING
""",
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)

LARGEST_KEPT = 4096
"""Bytes of a message, on average, above which no statement stays in memory with them."""

LAST_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"

FIND_SEQUENCE = "SELECT sequence FROM message WHERE channel_config_id = ? AND message_sid = ?"

# Once for each channel of a transaction, not for each message.
COUNT_MESSAGES = """
INSERT INTO channel_activity VALUES (?, ?, ?, ?, 0)
ON CONFLICT (channel_config_id) DO UPDATE SET
  last_message_at = excluded.last_message_at,
  messages = messages + excluded.messages,
  recovered = recovered + excluded.recovered
"""

ERASED = Recorded(0, is_erased=True)


class Intake(NamedTuple):
    """What somebody asks to record: see `MessageStore.record`."""

    messages: Sequence[RoutedMessage]
    is_recovered: bool
    quarantine_entry_id: str


class Numbered(NamedTuple):
    """A message that is to be stored, with its number, unless it turns out to be stored already."""

    sequence: int
    conversation: Conversation
    decision: Decision


def record(transaction: Transaction, intakes: Sequence[Intake]) -> Sequence[Sequence[Recorded]]:
    """See `MessageStore.record`. The intakes of several callers cost no more than one that is as large."""
    routed = [each for intake in intakes for each in intake.messages]
    entries = iter([entry for some in _cut(transaction, routed) for entry in _record(transaction, some)])
    recorded = [list(islice(entries, len(intake.messages))) for intake in intakes]
    for intake, theirs in zip(intakes, recorded, strict=True):
        _count(transaction, intake, theirs)
        if intake.quarantine_entry_id:
            settle_quarantined(transaction, [intake.quarantine_entry_id])
    return recorded


def _cut(transaction: Transaction, routed: Sequence[RoutedMessage]) -> Sequence[Sequence[RoutedMessage]]:
    """Cut messages so that nothing in a part decides where the rest of it goes, as affinity does."""
    if assignments.is_any(transaction) or any(each.decision.affinity_seconds for each in routed):
        return [[each] for each in routed]
    return [routed]


def _record(transaction: Transaction, some: Sequence[RoutedMessage]) -> Sequence[Recorded]:
    recorded, numbered, rows = _number(transaction, some)
    connection = transaction.connection
    before = connection.total_changes()
    size = sum(len(routed.message.payload) for routed in some)
    INSERT_MESSAGES.run(connection, rows, keep=size <= len(some) * LARGEST_KEPT)
    if connection.total_changes() - before < len(rows):
        recorded = [_look_up(transaction, *pair) for pair in zip(some, recorded, strict=True)]
        stored = {entry.sequence for entry in recorded if not entry.is_duplicate}
        numbered = [each for each in numbered if each.sequence in stored]
    _deliver(transaction, numbered)
    return recorded


def _number(
    transaction: Transaction, some: Sequence[RoutedMessage]
) -> tuple[Sequence[Recorded], Sequence[Numbered], Sequence[tuple[Any, ...]]]:
    """Return what becomes of messages if none is a duplicate, those that are to be stored, and their rows."""
    sequence = _next_sequence(transaction)
    # Asked once for all: nearly always nobody is, and then each message saves two calls.
    is_anybody_erased, is_any_assigned = erasure.is_anybody_erased(transaction), assignments.is_any(transaction)
    recorded: list[Recorded] = []
    numbered: list[Numbered] = []
    rows: list[tuple[Any, ...]] = []
    for (channel, sid, sender, _, received_at, _, payload), routed in some:
        conversation = Conversation(channel, sender)
        if is_anybody_erased and erasure.is_erased(transaction, conversation, received_at):
            recorded.append(ERASED)
            continue
        decision = assignments.apply(transaction, conversation, routed) if is_any_assigned else routed
        destinations, hold_reason, route_id, revision, assigned, _ = decision
        place = (route_id, revision, dump_names(destinations), assigned)
        rows.append((sequence, channel, sid, sender, transaction.now, hold_reason, *place, payload))
        numbered.append(Numbered(sequence, conversation, decision))
        recorded.append(Recorded(sequence))
        sequence += 1
    transaction.remembered.next_sequence = sequence
    return recorded, numbered, rows


def _next_sequence(transaction: Transaction) -> int:
    return transaction.remembered.next_sequence or (transaction.connection.execute(LAST_SEQUENCE).get or 0) + 1


def _look_up(transaction: Transaction, routed: RoutedMessage, entry: Recorded) -> Recorded:
    """Return what became of a message among which there are duplicates: the first one's number is its own or not."""
    if entry.is_erased:
        return entry
    key = (routed.message.channel_config_id, routed.message.message_sid)
    first = transaction.connection.execute(FIND_SEQUENCE, key).get
    return entry if first == entry.sequence else Recorded(first, is_duplicate=True)


def _deliver(transaction: Transaction, numbered: Sequence[Numbered]) -> None:
    arrivals.append(
        transaction,
        [
            (LaneKey(destination, channel, sender, lanes.part_of(transaction, destination, sequence)), sequence)
            for sequence, (channel, sender), decision in numbered
            if decision.hold_reason is None
            for destination in decision.destinations
        ],
    )
    for _, conversation, decision in numbered:
        if decision.affinity_seconds:
            assignments.keep_affinity(transaction, conversation, decision)


def _count(transaction: Transaction, intake: Intake, recorded: Sequence[Recorded]) -> None:
    stored, erased = _stored_in(transaction), Counter[str]()
    for (message, _), (_, is_duplicate, is_erased) in zip(intake.messages, recorded, strict=True):
        if is_erased:
            erased[message.channel_config_id] += 1
        elif not is_duplicate:
            stored[message.channel_config_id, intake.is_recovered] += 1
    for channel, count in erased.items():
        erasure.note_dropped(transaction, channel, count)


def _stored_in(transaction: Transaction) -> Counter[tuple[str, bool]]:
    """Return how many messages the transaction stores, by channel and by whether they come out of a journal."""
    transaction.before_commit[_count_stored] = None
    return transaction.stored


def _count_stored(transaction: Transaction) -> None:
    transaction.connection.executemany(
        COUNT_MESSAGES,
        [
            (channel, transaction.now, count, count if is_recovered else 0)
            for (channel, is_recovered), count in _stored_in(transaction).items()
        ],
    )
