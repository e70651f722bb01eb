"""Lanes: the queue of a conversation in a destination, one row each, whatever waits in it.

The row is the lock, the queue's head, the counter and the lease. Its own lane
(part 0) keeps a conversation in order; what is replayed to it has another one
(part -1); an unordered destination has a lane for each message (its sequence).

Who changes a lane or its deliveries has locked it, and looks at its deliveries
in a later statement than the one that locked it, since that one may not see
what came just before. Lanes are locked in order and all at once, by those who
wait for locks; claims don't wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from service.models import Conversation, DestinationSettings
from service.store.postgres.session import Outrun, Transaction

OWN = 0
REPLAYED = -1
LAST_SEQUENCE = 2**63 - 1

COLUMNS = """
id, destination, channel_config_id, sender, part, head, tail, front, attempts, claims, is_leased, has_expired,
leased_at, due_at, waits_for, awaited_by
"""

KEY = "channel_config_id, sender, destination, part"

# A lane is made with its first message, and falls due when it was empty. Positions follow from its tail: each message
# says how far it is from the end. What is returned of lanes comes in the order in which they were given. A lane that
# has a later message already is left as it is; then fewer deliveries are made than there are messages.
# Each upsert takes an id from the sequence, also where the lane is there: ids have gaps.
APPEND = f"""
WITH appended AS (
  INSERT INTO lane AS l ({KEY}, head, tail, newest, due_at)
  SELECT n.*, $7 FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $8::bigint[])
    AS n ({KEY}, head, tail, newest)
  ON CONFLICT ({KEY}) DO UPDATE
    SET tail = l.tail + excluded.tail, newest = greatest(l.newest, excluded.newest), due_at = coalesce(l.due_at, $7)
    WHERE l.newest < $9 OR l.part = {REPLAYED}
  RETURNING id, tail
), numbered AS (
  SELECT id, tail, row_number() OVER () AS number FROM appended
)
INSERT INTO delivery (lane, position, message)
SELECT n.id, n.tail - m.from_end, m.message
FROM unnest($10::bigint[], $11::bigint[], $12::bigint[]) AS m (number, from_end, message) JOIN numbered n USING (number)
"""

# With the lanes that wait for their leases.
LOCK = f"""
SELECT {COLUMNS} FROM lane
WHERE id = ANY (ARRAY(
  SELECT unnest($1::bigint[]) UNION
  SELECT awaited_by FROM lane WHERE id = ANY ($1) AND awaited_by IS NOT NULL
))
ORDER BY {KEY} FOR UPDATE
"""

TRY_TO_LOCK = f"SELECT {COLUMNS} FROM lane WHERE id = ANY ($1::bigint[]) FOR UPDATE SKIP LOCKED"

LOCK_CONVERSATION = f"""
SELECT {COLUMNS} FROM lane WHERE channel_config_id = $1 AND sender = $2 ORDER BY {KEY} FOR UPDATE
"""

LOAD = f"SELECT {COLUMNS} FROM lane WHERE id = $1"

MAKE_EMPTY = f"""
INSERT INTO lane ({KEY}, head, tail)
SELECT *, 1, 0 FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
ON CONFLICT ({KEY}) DO NOTHING
"""

LOCK_BY_KEY = f"""
SELECT {COLUMNS} FROM lane
WHERE ({KEY}) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]))
ORDER BY {KEY} FOR UPDATE
"""

# Nothing is rolled back in a sequence: an id above its last value was never used.
WAS_EVER = "SELECT id FROM unnest($1::bigint[]) AS id WHERE id BETWEEN 1 AND (SELECT last_value FROM lane_id_seq)"

HEADS = """
SELECT h.lane, d.message FROM unnest($1::bigint[], $2::bigint[]) AS h (lane, position)
JOIN delivery d USING (lane, position)
"""

# A part that was made for it goes with its last message.
ADVANCE = """
taken AS (
  DELETE FROM delivery d USING unnest($1::bigint[], $2::bigint[]) AS h (lane, position)
  WHERE d.lane = h.lane AND d.position = h.position RETURNING d.lane, d.message
), dropped AS (
  DELETE FROM lane WHERE id = ANY ($3::bigint[])
), moved AS (
  UPDATE lane SET head = head + 1, attempts = 0, is_leased = false, has_expired = false, awaited_by = NULL,
                  due_at = CASE WHEN tail > head OR waits_for IS NOT NULL THEN $5::bigint END
  WHERE id = ANY ($4::bigint[])
)
"""

TAKE = f"WITH {ADVANCE} SELECT lane, message FROM taken"

# The lease that ends first of those that a lane waits for.
FIND_AWAITED = f"""
SELECT {COLUMNS} FROM lane WHERE channel_config_id = $1 AND sender = $2 AND awaited_by = $3 ORDER BY due_at LIMIT 1
"""

# A lane that has something out itself, a copy, is due when that lease ends.
WAIT = """
UPDATE lane SET waits_for = $2, due_at = CASE WHEN is_leased AND NOT has_expired THEN due_at ELSE $3 END WHERE id = $1
"""
GO_ON = """
UPDATE lane SET waits_for = NULL, due_at = CASE
  WHEN head > tail THEN NULL WHEN is_leased AND NOT has_expired THEN due_at ELSE $2::bigint END
WHERE id = $1 AND waits_for IS NOT NULL
"""


class LaneKey(NamedTuple):
    """Which lane."""

    destination: str
    channel_config_id: str
    sender: str
    part: int

    @property
    def rank(self) -> tuple[str, str, str, int]:
        """What lanes are locked in the order of: the columns of `KEY`."""
        return self.channel_config_id, self.sender, self.destination, self.part


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
    is_leased: bool
    has_expired: bool
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
        return self.is_leased and not self.has_expired

    @property
    def first_pending(self) -> int:
        """The position of the oldest delivery that is not out."""
        return self.head + self.is_out


def part_of(settings: DestinationSettings, sequence: int) -> int:
    """Return the part that a live message goes to, in a destination with these settings."""
    return OWN if settings.is_ordered else sequence


async def append(transaction: Transaction, places: Sequence[tuple[LaneKey, int]]) -> None:
    """Put messages at the ends of lanes, in this order; those that aren't there are made. All at once.

    Raises `Outrun` where a later message came into a lane: then this one has to have a later sequence.
    """
    messages = Counter(key for key, _ in places)
    live = [sequence for key, sequence in places if key.part != REPLAYED]
    newest = {key: sequence for key, sequence in places if key.part != REPLAYED}
    keys = sorted(messages, key=lambda key: key.rank)
    numbers = {key: number for number, key in enumerate(keys, start=1)}
    left = messages.copy()
    left.subtract(places_key for places_key, _ in ())
    from_end: list[int] = []
    for key, _ in places:
        left[key] -= 1
        from_end.append(left[key])
    result = await transaction.connection.execute(
        APPEND,
        *columns(keys),
        [1] * len(keys),
        [messages[key] for key in keys],
        transaction.now,
        [newest.get(key, 0) for key in keys],
        min(live, default=LAST_SEQUENCE),
        [numbers[key] for key, _ in places],
        from_end,
        [sequence for _, sequence in places],
    )
    if result != f"INSERT 0 {len(places)}":
        raise Outrun
    transaction.ready.update(key.destination for key in keys)
    transaction.arrivals.update(key.destination for key, _ in places)
