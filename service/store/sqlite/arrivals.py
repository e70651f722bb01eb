"""Arrivals: messages are put at the ends of lanes, all of an intake in a few statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.writer import Transaction

# The lane is made with its first message, and falls due when it was empty.
APPEND = """
INSERT INTO lane (destination, channel_config_id, sender, part, head, tail, due_at) VALUES (?, ?, ?, ?, 1, 1, ?)
ON CONFLICT (destination, channel_config_id, sender, part)
  DO UPDATE SET tail = tail + 1, due_at = coalesce(due_at, excluded.due_at)
"""

# A statement of its own: RETURNING would make a table for its one row, each time.
APPEND_DELIVERY = """
INSERT INTO delivery (lane, position, message)
  SELECT id, tail, ? FROM lane WHERE destination = ? AND channel_config_id = ? AND sender = ? AND part = ?
"""


def append(transaction: Transaction, arrivals: Sequence[tuple[LaneKey, int]]) -> None:
    """Put messages at the ends of lanes, which are made where there are none; those of one lane in the given order."""
    for some in _cut(arrivals):
        transaction.connection.executemany(APPEND, [(*key, transaction.now) for key, _ in some])
        transaction.connection.executemany(APPEND_DELIVERY, [(sequence, *key) for key, sequence in some])
    counts = Counter(key.destination for key, _ in arrivals)
    transaction.ready.update(counts)
    transaction.arrivals.update(counts)


def _cut(arrivals: Sequence[tuple[LaneKey, int]]) -> Sequence[Sequence[tuple[LaneKey, int]]]:
    """Cut arrivals so that no lane is in a part twice."""
    if len({key for key, _ in arrivals}) == len(arrivals):
        return [arrivals]
    parts: list[list[tuple[LaneKey, int]]] = []
    times: Counter[LaneKey] = Counter()
    for arrival in arrivals:
        number = times[arrival[0]]
        times[arrival[0]] += 1
        if number == len(parts):
            parts.append([])
        parts[number].append(arrival)
    return parts
