"""Changes of the directory that come at the same moment: together, and each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.errors import AlreadyExists, Conflict, NotFound, StoreUnavailable
from service.models import Channel
from service.store.postgres import PostgresStore, changes
from tests.service.builders import ManualClock, a_channel
from tests.service.patience import open_patiently

MANY = 100

# Of each transaction that changes the directory, one row.
COUNT_COMMITS = """
CREATE TABLE change_commit (transaction xid8 PRIMARY KEY);
CREATE FUNCTION count_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO change_commit VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;
CREATE TRIGGER count_commit AFTER UPDATE ON directory FOR EACH STATEMENT EXECUTE FUNCTION count_commit();
"""

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted"


@pytest.fixture
async def store(dsn: str, clock: ManualClock) -> AsyncIterator[PostgresStore]:
    opened = await open_patiently(dsn, clock)
    yield opened
    await opened.close()


@asynccontextmanager
async def held_up(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Let changes of the directory wait while the block lasts, but for those on this connection."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("BEGIN; SELECT FROM directory FOR UPDATE")
        yield connection
    finally:
        await connection.close()


async def is_waiting(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Return when somebody waits for the directory."""
    while not await connection.fetchval(WAITING):
        pass


async def at_once(dsn: str, *asked: Awaitable[object]) -> Sequence[object]:
    """Let all of these wait for each other; return their results or errors."""
    async with held_up(dsn) as connection:
        tasks = [asyncio.ensure_future(each) for each in asked]
        await is_waiting(connection)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def revisions(store: PostgresStore) -> Sequence[tuple[str, int]]:
    found = await store.find_changes(None, limit=1000)
    return [(channel.channel_config_id, channel.revision) for channel in found.channels]


async def test_channels_that_are_made_at_once_share_transactions(store: PostgresStore, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(COUNT_COMMITS)

    made = await at_once(dsn, *(store.create_channel(a_channel(f"C{number}")) for number in range(MANY)))

    assert all(isinstance(each, Channel) for each in made)
    assert [name for name, _ in await revisions(store)] == [f"C{number}" for number in range(MANY)]
    assert await connection.fetchval("SELECT count(*) FROM change_commit") < MANY / 5
    await connection.close()


async def test_what_is_refused_refuses_nothing_else(store: PostgresStore, dsn: str) -> None:
    known = await store.create_channel(a_channel("known"))
    stale = a_channel("known")  # as it was before it was made

    _, refused, first, again, missing, changed = await at_once(
        dsn,
        store.create_channel(a_channel("C0")),
        store.replace_channel(stale),
        store.create_channel(a_channel("C1")),
        store.create_channel(a_channel("C1")),
        store.delete_channel("nobody", expected=None),
        store.replace_channel(known),
    )

    assert isinstance(refused, Conflict)
    assert isinstance(again, AlreadyExists)
    assert isinstance(missing, NotFound)
    assert isinstance(first, Channel)
    assert isinstance(changed, Channel)
    found = [(name, revision - known.revision) for name, revision in await revisions(store)]
    assert found == [("C0", 1), ("C1", 2), ("known", 3)], "nothing is left of what was refused"
    actions = [entry.action for entry in await store.list_audit(None, before=None, limit=10)]
    assert actions == ["channel-update", "channel-create", "channel-create", "channel-create"]


async def test_a_fault_of_ours_in_one_change_is_nobody_elses(store: PostgresStore, dsn: str) -> None:
    async def break_down(_: object) -> None:
        raise ValueError("a fault of ours")

    *made, broken = await at_once(
        dsn, *(store.create_channel(a_channel(f"C{number}")) for number in range(4)), store._sessions.change(break_down)
    )

    assert all(isinstance(each, Channel) for each in made)
    assert isinstance(broken, ValueError)
    assert [name for name, _ in await revisions(store)] == ["C0", "C1", "C2", "C3"]


async def test_who_gives_up_before_the_turn_changes_nothing(store: PostgresStore, dsn: str) -> None:
    async with held_up(dsn) as connection:
        first = asyncio.create_task(store.create_channel(a_channel("C0")))
        await is_waiting(connection)
        given_up = asyncio.create_task(store.create_channel(a_channel("C1")))
        others = [asyncio.create_task(store.create_channel(a_channel(f"C{number}"))) for number in (2, 3)]
        await asyncio.sleep(0)  # they are in the queue
        given_up.cancel()
    await asyncio.gather(first, *others)

    assert [name for name, _ in await revisions(store)] == ["C0", "C2", "C3"]


async def test_what_waits_is_bounded(store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_WAITING", 2)

    made = await at_once(dsn, *(store.create_channel(a_channel(f"C{number}")) for number in range(5)))

    assert [isinstance(each, StoreUnavailable) for each in made].count(True) >= 2
    assert len(await revisions(store)) == [isinstance(each, Channel) for each in made].count(True) >= 2


async def test_when_the_connection_is_lost_all_that_share_it_are_tried_again(store: PostgresStore, dsn: str) -> None:
    async with held_up(dsn) as connection:
        tasks = [asyncio.create_task(store.create_channel(a_channel(f"C{number}"))) for number in range(10)]
        await is_waiting(connection)
        ours = await connection.fetchval(
            "SELECT pid FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted"
        )
        await connection.fetchval("SELECT pg_terminate_backend($1)", ours)
    await asyncio.gather(*tasks)

    assert len(await revisions(store)) == 10


async def test_a_change_is_refused_when_the_directory_is_taken_for_too_long(dsn: str) -> None:
    store = await PostgresStore.open(dsn, deadline_seconds=0.5)
    async with held_up(dsn):
        refused = await asyncio.gather(
            *(store.create_channel(a_channel(f"C{number}")) for number in range(3)), return_exceptions=True
        )
    assert all(isinstance(each, StoreUnavailable) for each in refused)

    await store.create_channel(a_channel("C9"))
    assert "C9" in dict(await revisions(store))
    await store.close()
