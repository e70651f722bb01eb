"""Which databases a service may use, and that it leaves those alone which it may not."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from service.errors import StoreRefused
from service.models import AuditEntry
from service.store.migrations import load_migrations
from service.store.postgres import PostgresStore
from tests.postgres_server import Databases
from tests.service.builders import a_channel, a_message
from tests.service.patience import open_patiently

NEWEST = len(load_migrations("postgres"))


async def execute(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_what_was_stored_is_there_after_a_restart(dsn: str) -> None:
    store = await open_patiently(dsn)
    await store.create_channel(a_channel())
    await store.record([a_message("SM1")])
    await store.close()

    store = await open_patiently(dsn)

    assert await store.find_message("C1", "SM1") is not None
    await store.close()


async def test_processes_that_start_together_make_the_schema_once(postgres: Databases) -> None:
    async with postgres.empty_database() as dsn:
        stores = await asyncio.gather(*(open_patiently(dsn) for _ in range(5)))
        for store in stores:
            await store.check_alive()
            await store.close()

        assert [row["version"] for row in await execute(dsn, "SELECT version FROM schema_version")] == [NEWEST]


async def test_a_schema_that_needs_newer_code_is_refused_and_left_alone(dsn: str) -> None:
    await execute(dsn, f"UPDATE schema_version SET version = {NEWEST + 2}, oldest_code = {NEWEST + 1}")

    with pytest.raises(StoreRefused, match="start a newer mo-service"):
        await PostgresStore.open(dsn)

    assert (await execute(dsn, "SELECT version FROM schema_version"))[0]["version"] == NEWEST + 2


async def test_a_newer_schema_that_this_code_may_use_is_used_as_it_is(dsn: str) -> None:
    await execute(dsn, f"UPDATE schema_version SET version = {NEWEST + 2}, oldest_code = {NEWEST}")

    store = await open_patiently(dsn)
    await store.check_alive()
    await store.close()

    assert (await execute(dsn, "SELECT version FROM schema_version"))[0]["version"] == NEWEST + 2


async def test_the_database_of_another_program_is_refused_and_left_alone(postgres: Databases) -> None:
    async with postgres.empty_database() as dsn:
        await execute(dsn, "CREATE TABLE orders (id integer)")

        with pytest.raises(StoreRefused, match="tables of another program"):
            await PostgresStore.open(dsn)

        tables = await execute(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert [row["tablename"] for row in tables] == ["orders"]


async def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.postgres.STARTING_SECONDS", 0.0)

    with pytest.raises(StoreRefused) as refused:
        await PostgresStore.open("postgresql://mo:hunter2@127.0.0.1:1/mo?sslmode=disable")

    assert str(refused.value).startswith("can't use postgresql://127.0.0.1:1/mo: ")
    assert "hunter2" not in str(refused.value)


async def test_a_database_that_does_not_exist_is_refused(dsn: str) -> None:
    with pytest.raises(StoreRefused, match=r'database ".*nowhere" does not exist'):
        await PostgresStore.open(f"{dsn}_nowhere")


async def test_what_weakens_the_promise_is_named(dsn: str) -> None:
    store = await open_patiently(dsn)
    name = (await execute(dsn, "SELECT current_database()"))[0][0]
    healthy = await store.find_concerns()
    await execute(dsn, f"ALTER DATABASE {name} SET synchronous_commit = off")
    await store.close()

    store = await open_patiently(dsn)

    (added,) = set(await store.find_concerns()).difference(healthy)
    assert added.startswith("PostgreSQL's synchronous_commit is off")
    await store.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_not_even_the_database_takes_an_audit_entry_back(dsn: str, statement: str) -> None:
    store = await open_patiently(dsn)
    await store.audit(AuditEntry("ann", "look-at-text", {}))
    await store.close()

    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await execute(dsn, statement)

    assert [tuple(row) for row in await execute(dsn, "SELECT actor FROM audit")] == [("ann",)]
