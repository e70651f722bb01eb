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
from service.store.postgres.session import NOW, UNTOLD, Outrun, Transaction

OWN = 0
REPLAYED = -1
LAST_SEQUENCE = 2**63 - 1

COLUMNS = """
id, destination, channel_config_id, sender, part, head, tail, front, attempts, claims, is_leased, has_expired,
leased_at, due_at, waits_for, awaited_by
"""

KEY = "channel_config_id, sender, destination, part"

# A lane is made with its first message, and falls due when it was empty. Positions follow from its tail: each message
# says how many of its lane come after it. What is returned of lanes comes in the order in which they were given. A lane
# that has a later message already is left as it is; then no delivery is made at all.
# Each upsert takes an id from the sequence, also where the lane is there: ids have gaps.
APPEND = f"""
WITH appended AS (
  INSERT INTO lane AS l ({KEY}, head, tail, newest, due_at)
  SELECT {KEY}, 1, messages, newest, $7
  FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS n ({KEY}, messages, newest)
  ON CONFLICT ({KEY}) DO UPDATE
    SET tail = l.tail + excluded.tail, newest = greatest(l.newest, excluded.newest), due_at = coalesce(l.due_at, $7)
    WHERE l.newest < $8 OR l.part = {REPLAYED}
  RETURNING id, tail
), numbered AS (
  SELECT id, tail, row_number() OVER () AS number FROM appended
)
INSERT INTO delivery (lane, position, message)
SELECT n.id, n.tail - m.from_end, m.message
FROM unnest($9::bigint[], $10::bigint[], $11::bigint[]) AS m (number, from_end, message) JOIN numbered n USING (number)
WHERE (SELECT count(*) FROM appended) = cardinality($1::text[])
"""

# With the lanes that wait for their leases, and the time.
LOCK = f"""
SELECT {COLUMNS}, (SELECT {NOW}) AS now FROM lane
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
WERE_EVER = "SELECT id FROM unnest($1::bigint[]) AS id WHERE id BETWEEN 1 AND (SELECT last_value FROM lane_id_seq)"


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
    """Put messages at the ends of lanes, in this order; lanes that aren't there are made.

    Raises `Outrun` where a later live message has come into a lane before: recorded again, this one is the later one.
    """
    if not places:
        return
    counts = Counter(key for key, _ in places)
    live = {key: sequence for key, sequence in places if key.part != REPLAYED}
    keys = sorted(counts, key=lambda key: key.rank)
    numbers = {key: number for number, key in enumerate(keys, start=1)}
    done = await transaction.connection.execute(
        APPEND,
        *columns(keys),
        [counts[key] for key in keys],
        [live.get(key, 0) for key in keys],
        transaction.now,
        min((sequence for key, sequence in places if key in live), default=LAST_SEQUENCE),
        [numbers[key] for key, _ in places],
        _distances_from_end([key for key, _ in places], counts),
        [sequence for _, sequence in places],
    )
    if done != f"INSERT 0 {len(places)}":
        raise Outrun
    transaction.ready.update(key.destination for key in keys)
    transaction.arrivals.update(key.destination for key, _ in places)


def _distances_from_end(keys: Sequence[LaneKey], counts: Counter[LaneKey]) -> list[int]:
    """Return for each message how many come after it in its lane."""
    left = counts.copy()
    distances: list[int] = []
    for key in keys:
        left[key] -= 1
        distances.append(left[key])
    return distances


def columns(keys: Sequence[LaneKey]) -> tuple[list[str], list[str], list[str], list[int]]:
    """Return keys as the arrays of a statement, in the order of `KEY`."""
    return (
        [key.channel_config_id for key in keys],
        [key.sender for key in keys],
        [key.destination for key in keys],
        [key.part for key in keys],
    )


async def lock(transaction: Transaction, ids: Collection[int]) -> dict[int, Lane]:
    """Lock lanes and those that wait for their leases; return the ones that are there. A repeat reads them again.

    A transaction that doesn't know the time is told, if there are any. Raises `Outrun` when one has begun to be waited
    for meanwhile.
    """
    rows: list[Any] = await transaction.connection.fetch(LOCK, list(ids))
    if rows and transaction.now == UNTOLD:
        transaction.now = rows[0]["now"]
    found = {row[0]: Lane(*row[:-1]) for row in rows}
    if any(lane.awaited_by is not None and lane.awaited_by not in found for lane in found.values()):
        raise Outrun
    return found


async def try_to_lock(transaction: Transaction, ids: Collection[int]) -> dict[int, Lane]:
    """Lock those lanes that nobody has locked, without waiting; return them."""
    return _by_id(await transaction.connection.fetch(TRY_TO_LOCK, list(ids))) if ids else {}


async def lock_conversation(transaction: Transaction, conversation: Conversation) -> list[Lane]:
    """Lock all lanes of a conversation that there are."""
    return read(await transaction.connection.fetch(LOCK_CONVERSATION, *conversation))


async def hold(transaction: Transaction, keys: Collection[LaneKey]) -> dict[LaneKey, Lane]:
    """Lock lanes, which are made, empty, if there are none."""
    arrays = columns(sorted(keys, key=lambda key: key.rank))
    await transaction.connection.execute(MAKE_EMPTY, *arrays)
    held = {lane.key: lane for lane in read(await transaction.connection.fetch(LOCK_BY_KEY, *arrays))}
    if len(held) < len(keys):
        raise Outrun  # one was empty, and was removed in between
    return held


async def load(transaction: Transaction, lane_id: int) -> Lane | None:
    """Return a lane by its id, None when there is none."""
    row: Any = await transaction.connection.fetchrow(LOAD, lane_id)
    return Lane(*row) if row else None


def read(rows: Iterable[Any]) -> list[Lane]:
    """Return the lanes of rows with `COLUMNS`."""
    return [Lane(*row) for row in rows]


def _by_id(rows: Iterable[Any]) -> dict[int, Lane]:
    return {lane.id: lane for lane in read(rows)}


async def were_ever(transaction: Transaction, ids: Collection[int]) -> set[int]:
    """Return which of these ids lanes have or may have had: they are never used again."""
    return {row[0] for row in await transaction.connection.fetch(WERE_EVER, list(ids))}


async def drop(transaction: Transaction, lanes: Collection[Lane]) -> int:
    """Remove locked lanes with their deliveries; return how many of these there were."""
    ids = [lane.id for lane in lanes]
    done = await transaction.connection.execute("DELETE FROM delivery WHERE lane = ANY ($1::bigint[])", ids)
    await transaction.connection.execute("DELETE FROM lane WHERE id = ANY ($1::bigint[])", ids)
    return int(done.removeprefix("DELETE "))
