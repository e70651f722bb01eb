"""Re-routing: stored messages get other destinations, in the order of their conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.models import Conversation, Decision, Release, ReRouting
from service.store.routes_json import dump_names, load_names
from service.store.sqlite import arrivals, assignments, audit, lanes
from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.writer import Transaction

FIND = """
SELECT channel_config_id, sender, destinations FROM message
WHERE sequence = ? AND hold_reason IS NULL AND discarded_at IS NULL
"""

DECIDE = """
UPDATE message SET destinations = ?, route_id = ?, route_revision = ?, assignment_reason = ? WHERE sequence = ?
"""


def re_route(transaction: Transaction, releases: Sequence[Release], actor: str) -> dict[int, ReRouting]:
    """See `AsideStore.re_route`."""
    done: dict[int, ReRouting] = {}
    for each in sorted(releases, key=lambda entry: entry.sequence):
        row: Any = transaction.connection.execute(FIND, (each.sequence,)).fetchone()
        if row is not None:
            decision = assignments.decide(transaction, Conversation(*row[:2]), each)
            done[each.sequence] = ReRouting(decision, _re_route(transaction, each.sequence, row, decision))
    if changed := sum(each.has_changed for each in done.values()):
        audit.write(transaction, actor, "re-route", messages=changed)
    return done


def _re_route(transaction: Transaction, sequence: int, row: tuple[str, str, str], decision: Decision) -> bool:
    channel_config_id, sender, names = row
    before, wanted = load_names(names), decision.destinations
    unwanted = [LaneKey(name, channel_config_id, sender, lanes.OWN) for name in before if name not in wanted]
    left = [key.destination for key in unwanted if not _withdraw(transaction, key, sequence)]
    added = [LaneKey(name, channel_config_id, sender, lanes.OWN) for name in wanted if name not in before]
    for key in added:
        _insert(transaction, key, sequence)
    transaction.connection.execute(
        DECIDE,
        (
            dump_names((*wanted, *left)),
            decision.route_id,
            decision.route_revision,
            decision.assignment_reason,
            sequence,
        ),
    )
    return bool(added) or len(left) < len(unwanted)


def _withdraw(transaction: Transaction, key: LaneKey, sequence: int) -> bool:
    """Take a message out of a destination, unless it is out or was delivered; return whether it was there."""
    for part in (lanes.OWN, sequence):
        for lane in lanes.read(transaction.connection.execute(lanes.FIND, key._replace(part=part))):
            waiting = lanes.pending(transaction, lane)
            if sequence in waiting:
                waiting.remove(sequence)
                lanes.replace_pending(transaction, lane, waiting)
                return True
    return False


def _insert(transaction: Transaction, key: LaneKey, sequence: int) -> None:
    """Put a message into a destination: where its conversation has it, among what is not delivered yet."""
    if lanes.part_of(transaction, key.destination, sequence) != lanes.OWN:
        arrivals.append(transaction, [(key._replace(part=sequence), sequence)])
        return
    lane = lanes.find_or_make(transaction, key)
    lanes.replace_pending(transaction, lane, sorted([*lanes.pending(transaction, lane), sequence]))
