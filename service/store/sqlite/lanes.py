"""Lanes: the queue of a conversation in a destination, one row each, whatever waits in it.

The row is the lock, the queue's head, the counter and the lease. Its own lane
(part 0) keeps a conversation in order; what is replayed to it has another one
(part -1); an unordered destination has a lane for each message (its sequence).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from service.models import Conversation
from service.store.sqlite.destinations import settings_of
from service.store.sqlite.writer import Transaction

OWN = 0
REPLAYED = -1

INSERT_DELIVERY = "INSERT INTO delivery (lane, position, message) VALUES (?, ?, ?)"

COLUMNS = """
id, destination, channel_config_id, sender, part, head, tail, front, attempts, claims, is_leased, has_expired,
leased_at, due_at, waits_for, awaited_by
"""

FIND = f"SELECT {COLUMNS} FROM lane WHERE destination = ? AND channel_config_id = ? AND sender = ? AND part = ?"

LOAD = f"SELECT {COLUMNS} FROM lane WHERE id = ?"

MAKE_EMPTY = """
INSERT INTO lane (destination, channel_config_id, sender, part, head, tail) VALUES (?, ?, ?, ?, 1, 0)
ON CONFLICT (destination, channel_config_id, sender, part) DO NOTHING
"""

# Only what was put in front, and the one behind it, can have been at the head before.
ADVANCE = """
UPDATE lane SET head = head + 1, is_leased = 0, has_expired = 0,
                attempts = CASE WHEN head <= front THEN coalesce(
                  (SELECT d.attempts FROM delivery d WHERE d.lane = lane.id AND d.position = lane.head + 1), 0
                ) ELSE 0 END,
                due_at = CASE WHEN tail > head OR waits_for IS NOT NULL THEN ? END
WHERE id = ?
"""

# The lease that ends first of those that a lane waits for.
FIND_AWAITED = f"""
SELECT {COLUMNS} FROM lane WHERE channel_config_id = ? AND sender = ? AND awaited_by = ? ORDER BY due_at LIMIT 1
"""

# A lane that has something out itself, a copy, is due when that lease ends.
WAIT = """
UPDATE lane SET waits_for = ?, due_at = CASE WHEN is_leased AND NOT has_expired THEN due_at ELSE ? END WHERE id = ?
"""
GO_ON = """
UPDATE lane SET waits_for = NULL, due_at = CASE
  WHEN head > tail THEN NULL WHEN is_leased AND NOT has_expired THEN due_at ELSE ? END
WHERE id = ? AND waits_for IS NOT NULL
"""

# What is out keeps its lease: it only gets another position.
MOVE_LEASED = "UPDATE delivery SET position = ? WHERE lane = ? AND position = ?"

PENDING = "SELECT message FROM delivery WHERE lane = ? AND position BETWEEN ? AND ? ORDER BY position"

IN_FRONT = "SELECT message, attempts FROM delivery WHERE lane = ? AND position BETWEEN ? AND ?"

INSERT_IN_FRONT = "INSERT INTO delivery (lane, position, message, attempts) VALUES (?, ?, ?, ?)"

KEEP_ATTEMPTS = "UPDATE delivery SET attempts = ? WHERE lane = ? AND position = ?"

FORGET = "DELETE FROM delivery WHERE lane = ? AND position BETWEEN ? AND ?"

REFILL = """
UPDATE lane SET head = ?, tail = ?, front = ?, due_at = ?, attempts = ?, is_leased = ?, has_expired = ? WHERE id = ?
"""


class LaneKey(NamedTuple):
    """Which lane."""

    destination: str
    channel_config_id: str
    sender: str
    part: int


class Lane(NamedTuple):
    """A row. Empty when `head` is behind `tail`."""

    id: int
    destination: str
    channel_config_id: str
    sender: str
    part: int
    head: int
    tail: int
    front: int | None
    attempts: int
    claims: int
    is_leased: int
    has_expired: int
    leased_at: int | None
    due_at: int | None
    waits_for: int | None
    awaited_by: int | None

    @property
    def key(self) -> LaneKey:
        """Which lane it is."""
        return LaneKey(self.destination, self.channel_config_id, self.sender, self.part)

    @property
    def conversation(self) -> Conversation:
        """Whose messages these are."""
        return Conversation(self.channel_config_id, self.sender)

    @property
    def is_out(self) -> bool:
        """Whether its head is with a consumer, as far as was noted."""
        return bool(self.is_leased and not self.has_expired)

    @property
    def first_pending(self) -> int:
        """The position of the oldest delivery that is not out."""
        return self.head + self.is_out


def part_of(transaction: Transaction, destination: str, sequence: int) -> int:
    """Return the part that a live message goes to."""
    return OWN if settings_of(transaction, destination).is_ordered else sequence


def find_or_make(transaction: Transaction, key: LaneKey) -> Lane:
    """Return a lane, an empty one if there was none."""
    transaction.connection.execute(MAKE_EMPTY, key)
    return read(transaction.connection.execute(FIND, key))[0]


def read(rows: Iterable[Any]) -> list[Lane]:
    """Return the lanes of rows with `COLUMNS`."""
    return [Lane(*row) for row in rows]


def load(transaction: Transaction, lane_id: int) -> Lane | None:
    """Return a lane by its id, None when there is none."""
    row: Any = transaction.connection.execute(LOAD, (lane_id,)).fetchone()
    return Lane(*row) if row else None


def was_ever(transaction: Transaction, lane_id: int) -> bool:
    """Whether a lane of this id exists or existed: ids are never used again."""
    highest = transaction.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'lane'").get
    return 1 <= lane_id <= (highest or 0)


def head_message(transaction: Transaction, lane: Lane) -> int:
    """Return the message at the head of a lane that is not empty."""
    return int(
        transaction.connection.execute(
            "SELECT message FROM delivery WHERE lane = ? AND position = ?", (lane.id, lane.head)
        ).get
    )


def drop(transaction: Transaction, lane: Lane) -> None:
    """Remove a lane with its deliveries."""
    transaction.connection.execute("DELETE FROM delivery WHERE lane = ?", (lane.id,))
    transaction.connection.execute("DELETE FROM lane WHERE id = ?", (lane.id,))


def advance(transaction: Transaction, lane: Lane) -> int:
    """Take the head off, whatever became of it; return its message. The lane that waited for its lease may go on."""
    connection = transaction.connection
    message = connection.execute(
        "DELETE FROM delivery WHERE lane = ? AND position = ? RETURNING message", (lane.id, lane.head)
    ).get
    if lane.part != OWN and lane.head == lane.tail:
        connection.execute("DELETE FROM lane WHERE id = ?", (lane.id,))
    else:
        connection.execute(ADVANCE, (transaction.now, lane.id))
    if lane.tail > lane.head:
        transaction.ready.add(lane.destination)
    if lane.awaited_by is not None:
        connection.execute("UPDATE lane SET awaited_by = NULL WHERE id = ?", (lane.id,))
        wait_for_leases(transaction, lane.awaited_by)
    return int(message)


def wait_for_leases(transaction: Transaction, lane_id: int) -> None:
    """Let a lane wait for what is out of its conversation elsewhere; it goes on, at once, when nothing is.

    What was going to wait for its back-off, too, doesn't.
    """
    lane = load(transaction, lane_id)
    if lane is None:
        return
    awaited = find_awaited(transaction, lane)
    if awaited is None:
        transaction.connection.execute(GO_ON, (transaction.now, lane.id))
    else:
        transaction.connection.execute(WAIT, (awaited.id, awaited.due_at, lane.id))
    transaction.ready.add(lane.destination)


def find_awaited(transaction: Transaction, lane: Lane) -> Lane | None:
    """Return the lane with the lease that ends first of those that a lane waits for."""
    row: Any = transaction.connection.execute(FIND_AWAITED, (*lane.conversation, lane.id)).fetchone()
    return Lane(*row) if row else None


def pending(transaction: Transaction, lane: Lane) -> list[int]:
    """Return the messages of a lane that are not out, in order."""
    rows = transaction.connection.execute(PENDING, (lane.id, lane.first_pending, lane.tail))
    return [message for (message,) in rows]


def put_in_front(transaction: Transaction, key: LaneKey, sequences: Sequence[int]) -> None:
    """Put messages before what is not delivered yet: in order with those that were put there earlier.

    What was the head keeps its failed attempts.
    """
    lane = find_or_make(transaction, key)
    first = lane.first_pending
    last = first - 1 if lane.front is None else min(max(lane.front, first - 1), lane.tail)
    if not lane.is_out:
        transaction.connection.execute(KEEP_ATTEMPTS, (lane.attempts, lane.id, lane.head))
    attempts = dict(transaction.connection.execute(IN_FRONT, (lane.id, first, last)))
    transaction.connection.execute(FORGET, (lane.id, first, last))
    merged = sorted({*sequences, *attempts})
    start = last + 1 - len(merged)
    _restart(transaction, lane, start, lane.tail, last, attempts=attempts.get(merged[0], 0))
    transaction.connection.executemany(
        INSERT_IN_FRONT,
        [(lane.id, position, sequence, attempts.get(sequence, 0)) for position, sequence in enumerate(merged, start)],
    )


def replace_pending(transaction: Transaction, lane: Lane, sequences: Sequence[int]) -> None:
    """Make these the messages of a lane that are not out, in this order. Costs as much as there are."""
    before = pending(transaction, lane)
    if before == sequences:
        return
    first = lane.first_pending
    transaction.connection.execute(FORGET, (lane.id, first, lane.tail))
    _insert(transaction, lane.id, first, sequences)
    tail = first + len(sequences) - 1
    if before[:1] == sequences[:1]:
        transaction.connection.execute("UPDATE lane SET tail = ?, front = NULL WHERE id = ?", (tail, lane.id))
    else:
        _restart(transaction, lane, first, tail, None)


def _restart(
    transaction: Transaction, lane: Lane, first_pending: int, tail: int, front: int | None, *, attempts: int = 0
) -> None:
    """Give a lane another first delivery that is not out, with its failed attempts; what is out stays out."""
    head = first_pending - lane.is_out
    if lane.is_out:
        transaction.connection.execute(MOVE_LEASED, (head, lane.id, lane.head))
        due_at, attempts = lane.due_at, lane.attempts
    else:
        due_at = transaction.now if head <= tail or lane.waits_for is not None else None
        transaction.ready.add(lane.destination)
    transaction.connection.execute(REFILL, (head, tail, front, due_at, attempts, int(lane.is_out), 0, lane.id))


def _insert(transaction: Transaction, lane_id: int, start: int, sequences: Sequence[int]) -> None:
    transaction.connection.executemany(
        INSERT_DELIVERY, [(lane_id, position, sequence) for position, sequence in enumerate(sequences, start)]
    )
