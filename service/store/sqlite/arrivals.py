"""Arrivals: messages are put at the ends of lanes, all of an intake in a few statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from service.store.sqlite.lanes import LaneKey
from service.store.sqlite.many_rows import ManyRows
from service.store.sqlite.writer import Transaction

# A lane is made with its first message, and falls due when it was empty.
APPEND = ManyRows(
    """
INSERT INTO lane (destination, channel_config_id, sender, part, head, tail, due_at)
VALUES ?
ON CONFLICT (destination, channel_config_id, sender, part)
  DO UPDATE SET tail = tail + 1, due_at = coalesce(due_at, excluded.due_at)
""",
    row="(?, ?, ?, ?, 1, 1, ?)",
)

# A statement of its own: RETURNING promises no order. CROSS: the arrivals come first, each looks its lane up.
APPEND_DELIVERIES = ManyRows(
    """
INSERT INTO delivery (lane, position, message)
  SELECT l.id, l.tail, a.column1 FROM (VALUES ?) a CROSS JOIN lane l
  WHERE l.destination = a.column2 AND l.channel_config_id = a.column3 AND l.sender = a.column4 AND l.part = a.column5
""",
    row="(?, ?, ?, ?, ?)",
)


def append(transaction: Transaction, arrivals: Sequence[tuple[LaneKey, int]]) -> None:
    """Put messages at the ends of lanes, which are made where there are none; those of one lane in the given order."""
    for some in _cut(arrivals):
        APPEND.run(transaction.connection, [(*key, transaction.now) for key, _ in some])
        APPEND_DELIVERIES.run(transaction.connection, [(sequence, *key) for key, sequence in some])
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
