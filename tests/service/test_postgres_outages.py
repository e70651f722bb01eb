"""A PostgreSQL that is away, ill, or only partly there: every answer comes in time, and none is a lie."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic

import pytest

from service.errors import StoreUnavailable
from service.store.postgres.pool import Pool
from service.store.postgres.server import Server
from service.store.postgres.session import Sessions, Transaction
from tests.faults.proxy import FaultProxy
from tests.postgres_server import PostgresServer, running_postgres
from tests.service.transactions import MAKE_TABLE, add, execute, opened, stored


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that these tests may ill-treat."""
    with running_postgres() as running:
        yield running


async def test_behind_a_link_that_swallows_everything_the_answer_comes_in_time(dsn: str) -> None:
    upstream = dsn.partition("@")[2].partition("/")[0]
    async with FaultProxy(upstream) as proxy, opened(dsn.replace(upstream, proxy.listen)) as sessions:
        assert await sessions.read(lambda transaction: transaction.connection.fetchval("SELECT 1")) == 1
        proxy.black_hole()
        for _ in range(2):
            begun = monotonic()
            with pytest.raises(StoreUnavailable):
                await sessions.run(lambda transaction: transaction.connection.execute("SELECT 1"))
            assert monotonic() - begun < 2.5
        proxy.pass_through()

        assert await sessions.read(lambda transaction: transaction.connection.fetchval("SELECT 1")) == 1


async def test_a_server_that_crashes_is_unavailable_until_it_is_back(server: PostgresServer) -> None:
    async with opened(server.dsn) as sessions:
        assert await sessions.read(lambda transaction: transaction.connection.fetchval("SELECT 1")) == 1
        server.stop()
        with pytest.raises(StoreUnavailable):
            await sessions.run(lambda transaction: transaction.connection.execute("SELECT 1"))
        server.start()

        assert await sessions.read(lambda transaction: transaction.connection.fetchval("SELECT 1")) == 1


async def test_a_commit_that_no_synchronous_standby_has_confirmed_is_not_made_visible_by_a_time_out(
    server: PostgresServer,
) -> None:
    await execute(server.dsn, MAKE_TABLE)
    await execute(server.dsn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await execute(server.dsn, "SELECT pg_reload_conf()")
    async with opened(server.dsn) as sessions:
        await _wait_until_reloaded(sessions)
        with pytest.raises(StoreUnavailable):
            await sessions.run(lambda transaction: add(transaction, 1))

        assert await stored(sessions) == []


async def _wait_until_reloaded(sessions: Sessions) -> None:
    async with asyncio.timeout(10):
        while not await sessions.read(
            lambda transaction: transaction.connection.fetchval("SELECT current_setting('synchronous_standby_names')")
        ):
            pass


async def test_the_first_host_that_answers_is_used(dsn: str) -> None:
    upstream = dsn.partition("@")[2].partition("/")[0]
    async with FaultProxy(upstream) as away:
        away.black_hole()
        several = dsn.replace(upstream, f"{away.listen},{upstream}")
        async with opened(several) as sessions:
            assert await sessions.read(lambda transaction: transaction.connection.fetchval("SELECT 1")) == 1


async def test_a_server_that_takes_no_writes_is_unavailable_until_it_does(dsn: str) -> None:
    name = dsn.rpartition("/")[2]
    await execute(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(dsn) as sessions:
        with pytest.raises(StoreUnavailable):
            await sessions.run(lambda transaction: transaction.connection.execute("SELECT 1"))
        await execute(dsn.replace(name, "postgres"), f"ALTER DATABASE {name} SET default_transaction_read_only = off")

        await sessions.run(lambda transaction: transaction.connection.execute("SELECT 1"))


async def test_behind_a_pooler_nothing_is_prepared_on_the_server(dsn: str) -> None:
    pool = Pool(Server(dsn, is_pooled=True).connect, 1)
    count = "SELECT count(*) FROM pg_prepared_statements WHERE statement <> $1"

    async def use(transaction: Transaction) -> int:
        for _ in range(3):
            await transaction.connection.fetchval("SELECT $1::int", 1)
        prepared: int = await transaction.connection.fetchval(count, "")
        return prepared

    assert await Sessions(pool, announce=lambda _: None).run(use) == 0
    await pool.close()
