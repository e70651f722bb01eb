"""A PostgreSQL store that is full at once: with the rows that its own contract leaves, but table by table.

Through the contract, 2,000,000 messages take a quarter of an hour. `test_bulk.py` fills stores both ways, and compares
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from tests.bench.filling import a_message, make_channels, opened
from tests.bench.mo_messages import DESTINATION

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

_COPIED_AT_ONCE = 100_000
_APART_US = 100
"""As if 10,000 messages a second had come in until now."""

# The first channel, and what the audit says of it, are the image of the others.
_MAKE_CHANNELS = """
WITH other AS (
  SELECT n, 'C1-' || n AS name FROM generate_series(1, $1::bigint - 1) AS n
), made AS (
  INSERT INTO channel
  SELECT (jsonb_populate_record(c, jsonb_build_object('channel_config_id', name, 'revision', c.revision + n))).*
  FROM channel c, other WHERE c.channel_config_id = 'C1-0' ORDER BY n
  RETURNING revision
), noted AS (
  INSERT INTO directory_change SELECT revision FROM made
), audited AS (
  INSERT INTO audit (at, actor, action, details)
  SELECT at, actor, action, replace(details, '"C1-0"', '"' || name || '"')
  FROM audit, other WHERE action = 'channel-create' ORDER BY n
)
UPDATE directory SET revision = revision + $1 - 1
"""

_MESSAGE_COLUMNS = (
    *("sequence", "committed_at", "route_revision", "channel_config_id", "message_sid", "sender", "route_id"),
    *("destinations", "payload"),
)

_COUNT = """
INSERT INTO channel_activity (last_message_at, messages, recovered, clashes, counter, channel_config_id)
SELECT max(committed_at), count(*), 0, 0, 0, channel_config_id FROM message GROUP BY channel_config_id ORDER BY 6
"""

# In the order in which they were made.
_MAKE_LANES = """
INSERT INTO lane (part, head, tail, newest, due_at, destination, channel_config_id, sender)
SELECT 0, 1, count(*), max(sequence), min(committed_at), $1, channel_config_id, sender
FROM message GROUP BY channel_config_id, sender ORDER BY min(sequence)
"""

_QUEUE = """
INSERT INTO delivery (lane, position, message)
SELECT l.id, row_number() OVER (PARTITION BY l.id ORDER BY m.sequence), m.sequence
FROM message m JOIN lane l USING (channel_config_id, sender) ORDER BY m.sequence
"""

# Each was claimed when it was there, and acknowledged then.
_MAKE_SETTLED_LANES = """
INSERT INTO lane (part, head, tail, newest, claims, leased_at, destination, channel_config_id, sender)
SELECT 0, count(*) + 1, count(*), max(sequence), max(committed_at) + 1, max(committed_at) + 1, $1,
       channel_config_id, sender
FROM message GROUP BY channel_config_id, sender ORDER BY min(sequence)
"""

_SETTLE = """
INSERT INTO settled (message, settled_at, delivered_at, attempts, destination)
SELECT sequence, committed_at + 2, committed_at + 1, 1, $1 FROM message ORDER BY sequence
"""


async def fill_in_bulk(dsn: str, tell: Callable[[str], None], *, channels: int, stored: int, backlog: int) -> None:
    """Fill an empty store with channels, and messages: delivered and acknowledged ones, or waiting ones.

    Afterwards the database is as after a while of quiet: vacuumed, analyzed, and written to its files.
    """
    assert not (stored and backlog), "they would be the same messages"
    async with opened(dsn) as store:
        await make_channels(store, range(1), tell)
    async with _connected(dsn) as connection:
        tell(f"{channels:,} channels are made")
        await connection.execute(_MAKE_CHANNELS, channels)
        if stored or backlog:
            await _store(connection, stored or backlog, tell)
            await connection.execute(_COUNT)
        if stored:
            tell(f"{stored:,} messages are settled")
            await connection.execute(_MAKE_SETTLED_LANES, DESTINATION)
            await connection.execute(_SETTLE, DESTINATION)
        if backlog:
            tell(f"{backlog:,} messages are queued")
            await connection.execute(_MAKE_LANES, DESTINATION)
            await connection.execute(_QUEUE)
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off", "jit": "off"})
    try:
        yield connection
    finally:
        await connection.close()


async def _store(connection: Connection, count: int, tell: Callable[[str], None]) -> None:
    """Store messages with the sequences 1, 2, …"""
    now_us = await connection.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    for start in range(0, count, _COPIED_AT_ONCE):
        tell(f"{start:,} of {count:,} messages are stored")
        numbers = range(start, min(count, start + _COPIED_AT_ONCE))
        rows = _rows(numbers, began_at=now_us - count * _APART_US)
        await connection.copy_records_to_table("message", records=rows, columns=_MESSAGE_COLUMNS)
    await connection.execute("SELECT setval('message_sequence', $1)", count)


def _rows(numbers: range, *, began_at: int) -> Iterator[tuple[object, ...]]:
    for number in numbers:
        message, decision = a_message(number)
        yield (
            number + 1,
            began_at + number * _APART_US,
            decision.route_revision,
            message.channel_config_id,
            message.message_sid,
            message.sender,
            decision.route_id,
            list(decision.destinations),
            message.payload,
        )
