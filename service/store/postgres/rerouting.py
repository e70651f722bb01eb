"""Re-routing: stored messages get other destinations, in the order of their conversation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.models import Conversation, Decision, Release, ReRouting
from service.store.postgres import assignments, audit, conversations, lanes, positions
from service.store.postgres.destinations import load_settings
from service.store.postgres.lanes import Lane, LaneKey
from service.store.postgres.session import Transaction

FIND = """
SELECT sequence, channel_config_id, sender, destinations FROM message
WHERE sequence = ANY ($1::bigint[]) AND hold_reason IS NULL AND discarded_at IS NULL ORDER BY sequence
"""

DECIDE = """
UPDATE message m SET destinations = string_to_array(d.destinations, ','), route_id = d.route_id,
                     route_revision = d.route_revision, assignment_reason = d.assignment_reason
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[])
  AS d (sequence, destinations, route_id, route_revision, assignment_reason)
WHERE m.sequence = d.sequence
"""


async def re_route(transaction: Transaction, releases: Sequence[Release], actor: str) -> dict[int, ReRouting]:
    """See `AsideStore.re_route`. Has the conversations to itself."""
    wanted = {each.sequence: each for each in releases}
    brought = {message.conversation for message in await _find(transaction, wanted)}
    await conversations.take(transaction, *brought)
    found = await assignments.find_all(transaction, brought)
    held = [lane for each in sorted(brought) for lane in await lanes.lock_conversation(transaction, each)]
    moves = [
        _Move(message, assignments.decide(wanted[message.sequence], found.get(message.conversation)))
        for message in await _find(transaction, wanted)
    ]
    await _place(transaction, moves, held)
    rows = [
        (
            move.message.sequence,
            ",".join((*move.decision.destinations, *move.left)),
            move.decision.route_id,
            move.decision.route_revision,
            move.decision.assignment_reason,
        )
        for move in moves
    ]
    await transaction.connection.execute(DECIDE, *([row[column] for row in rows] for column in range(5)))
    if changed := sum(move.has_changed for move in moves):
        await audit.write(transaction, actor, "re-route", messages=changed)
    return {move.message.sequence: ReRouting(move.decision, move.has_changed) for move in moves}


class _Message(NamedTuple):
    """A message that isn't held or discarded, and where it went."""

    sequence: int
    conversation: Conversation
    destinations: Sequence[str]


@dataclass
class _Move:
    """What a decision changes for a message. `left`: where it stays, although it isn't wanted there any more."""

    message: _Message
    decision: Decision
    left: list[str] = field(default_factory=list)

    @property
    def unwanted(self) -> list[str]:
        return [name for name in self.message.destinations if name not in self.decision.destinations]

    @property
    def added(self) -> list[str]:
        return [name for name in self.decision.destinations if name not in self.message.destinations]

    @property
    def has_changed(self) -> bool:
        return bool(self.added) or len(self.left) < len(self.unwanted)


async def _find(transaction: Transaction, sequences: Collection[int]) -> list[_Message]:
    rows: list[Any] = await transaction.connection.fetch(FIND, list(sequences))
    return [_Message(sequence, Conversation(channel, sender), names) for sequence, channel, sender, names in rows]


async def _place(transaction: Transaction, moves: Sequence[_Move], held: Sequence[Lane]) -> None:
    """Withdraw messages from where they wait and aren't wanted, and put them among what waits where they are."""
    settings = await load_settings(transaction, {name for move in moves for name in move.added})
    places = [
        (LaneKey(name, *move.message.conversation, lanes.part_of(settings[name], move.message.sequence)), move)
        for move in moves
        for name in move.added
    ]
    by_key = {lane.key: lane for lane in held}
    by_key |= await lanes.hold(transaction, {key for key, _ in places if key.part == lanes.OWN})
    before = await positions.pending(transaction, list(by_key.values()))
    queues = {key: list(before.get(lane.id, ())) for key, lane in by_key.items()}
    for move in moves:
        move.left = [name for name in move.unwanted if not _withdraw(queues, move.message, name)]
    for key, move in places:
        if key.part == lanes.OWN:
            queues[key] = sorted([*queues[key], move.message.sequence])
    for key, queue in queues.items():
        if queue != before.get(by_key[key].id, []):
            await positions.replace_pending(transaction, by_key[key], queue)
    await lanes.append(transaction, [(key, move.message.sequence) for key, move in places if key.part != lanes.OWN])


def _withdraw(queues: Mapping[LaneKey, list[int]], message: _Message, destination: str) -> bool:
    """Take a message out of a destination, unless it is out or was delivered; return whether it was there."""
    for part in (lanes.OWN, message.sequence):
        queue = queues.get(LaneKey(destination, *message.conversation, part), [])
        if message.sequence in queue:
            queue.remove(message.sequence)
            return True
    return False
