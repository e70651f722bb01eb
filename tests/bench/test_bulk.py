"""What is filled in bulk is what the store's own contract leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import asyncpg
import pytest

from tests.bench.bulk import fill_in_bulk
from tests.bench.filling import make_channels, make_messages, opened
from tests.postgres_server import Databases, open_databases

CHANNELS = 120
MESSAGES = 700
CONVERSATIONS = 30

# When something was done, which numbers of claims and of the directory follow; the salt and ids that every store has
# of its own.
OF_ITS_OWN = {
    *("committed_at", "created_at", "updated_at", "last_message_at", "leased_at", "due_at", "settled_at"),
    *("delivered_at", "at", "claims", "revision", "password_hash", "directory_id", "key"),
}

# Who counts there and how is anybody's.
ACTIVITY = """
SELECT channel_config_id, sum(messages) AS messages, sum(recovered) AS recovered, sum(clashes) AS clashes,
       max(last_message_at) AS last_message_at
FROM channel_activity GROUP BY channel_config_id
"""

# The ids of lanes have gaps.
DELIVERIES = """
SELECT channel_config_id, sender, destination, part, position, message, d.attempts
FROM delivery d JOIN lane l ON l.id = d.lane
"""
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
LAST_SEQUENCE = "SELECT last_value FROM message_sequence"
QUERIES = {"channel_activity": ACTIVITY, "delivery": DELIVERIES}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Databases]:
    with open_databases() as databases:
        yield databases


@pytest.fixture(autouse=True)
def several_messages_of_each_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.filling._CONVERSATIONS", CONVERSATIONS)


@pytest.mark.parametrize(
    ("stored", "backlog"),
    [
        pytest.param(0, 0, id="channels alone"),
        pytest.param(MESSAGES, 0, id="settled messages"),
        pytest.param(0, MESSAGES, id="waiting messages"),
    ],
)
async def test_a_store_that_is_filled_in_bulk_holds_what_its_contract_leaves(
    postgres: Databases, stored: int, backlog: int
) -> None:
    async with postgres.database() as ours, postgres.database() as theirs:
        await fill_in_bulk(ours, _tell_nobody, channels=CHANNELS, stored=stored, backlog=backlog)
        async with opened(theirs) as store:
            await make_channels(store, range(CHANNELS), _tell_nobody)
            await make_messages(store, stored, _tell_nobody, are_settled=True)
            await make_messages(store, backlog, _tell_nobody, are_settled=False)
        assert await _dump(ours) == await _dump(theirs)


async def test_a_store_that_was_filled_in_bulk_goes_on_behind_what_it_holds(postgres: Databases) -> None:
    async with postgres.database() as dsn:
        await fill_in_bulk(dsn, _tell_nobody, channels=CHANNELS, stored=MESSAGES, backlog=0)
        async with opened(dsn) as store:
            await make_channels(store, range(CHANNELS, CHANNELS + 1), _tell_nobody)
            await make_messages(store, MESSAGES + 10, _tell_nobody, are_settled=False)
            (status,) = await store.list_destinations()
    assert status.backlog == 10, "the others are known"


def _tell_nobody(_line: str) -> None:
    pass


async def _dump(dsn: str) -> Mapping[str, Sequence[str]]:
    """Return the rows of every table, and whether there is a time where one may be."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(TABLES)
        rows = {
            name: sorted(map(_tell_row, await connection.fetch(QUERIES.get(name, f"SELECT * FROM {name}"))))
            for (name,) in tables
        }
        return {**rows, "message_sequence": [str(await connection.fetchval(LAST_SEQUENCE))]}
    finally:
        await connection.close()


def _tell_row(row: asyncpg.Record) -> str:
    # The id of a lane.
    own = {*OF_ITS_OWN, *({"id"} if "tail" in row else ())}
    return repr({name: value is None if name in own else value for name, value in row.items()})
