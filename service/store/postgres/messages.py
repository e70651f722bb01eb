"""The messages' SQL: recording an intake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
SELECT EXISTS (SELECT FROM erased_sender) AS is_anybody_erased, EXISTS (SELECT FROM assignment) AS is_any_assigned
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
    """What was known when an intake came in: when senders were erased, and where conversations stay."""

    erased: dict[Conversation, int]
    assigned: dict[Conversation, Assignment]


@dataclass(slots=True)
class _Intake:
    """The messages of an intake, each once, that nothing kept out, with the decisions that are in force."""

    decided: dict[MessageKey, RoutedMessage]
    affinities: dict[Conversation, Decision]


async def record(
    transaction: Transaction, intake: Sequence[RoutedMessage], is_recovered: bool, quarantine_entry_id: str
) -> list[Recorded]:
    """See `MessageStore.record`."""
    ground = await _prepare(transaction, {_conversation(routed) for routed in intake})
    wanted = [routed for routed in intake if not _is_erased(ground, routed)]
    known = await _find_known(transaction, wanted)
    decided = _decide(transaction.now, ground, (routed for routed in wanted if _key(routed) not in known))
    stored = await _store(transaction, list(decided.decided.values()), is_recovered)
    if decided.affinities and len(stored) < len(decided.decided):
        raise Outrun  # a message that is a duplicate after all may have decided where others go
    await _deliver(transaction, decided, stored)
    repeated = {_key(routed) for routed in wanted} - stored.keys() - known.keys()
    sequences = known | stored | await _find_sequences(transaction, repeated)
    if len(sequences) < len({_key(routed) for routed in wanted}):
        raise Outrun  # what it repeats has been removed meanwhile
    if quarantine_entry_id:
        await settle_quarantined(transaction, [quarantine_entry_id])
    await _note_dropped(transaction, Counter(map(_channel, (each for each in intake if _is_erased(ground, each)))))
    return _tell(intake, ground, sequences, set(stored))
