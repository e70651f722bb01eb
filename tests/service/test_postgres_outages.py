"""A PostgreSQL that is away, ill, or only partly there: every answer comes in time, and none is a lie."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from service.errors import StoreUnavailable
from service.store.postgres.pool import Pool
from service.store.postgres.server import Server
from service.store.postgres.session import Sessions, Transaction
from tests.faults.proxy import FaultProxy
from tests.postgres_server import PostgresServer, running_postgres
from tests.service.patience import once_available
from tests.service.transactions import MAKE_TABLE, add, execute, opened, select_1, stored

impatient = partial(opened, deadline_seconds=1.5)
"""Sessions that give up as soon as the service does."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that these tests may ill-treat."""
    with running_postgres() as running:
        yield running


async def test_behind_a_link_that_swallows_everything_the_answer_comes_in_time(dsn: str) -> None:
    upstream = dsn.partition("@")[2].partition("/")[0]
    async with FaultProxy(upstream) as proxy, impatient(dsn.replace(upstream, proxy.listen)) as sessions:
        assert await once_available(lambda: sessions.read(select_1)) == 1
        proxy.black_hole()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await sessions.run(select_1)
        proxy.pass_through()

        assert await once_available(lambda: sessions.read(select_1)) == 1


async def test_a_server_that_crashes_is_unavailable_until_it_is_back(server: PostgresServer) -> None:
    async with impatient(server.dsn) as sessions:
        assert await once_available(lambda: sessions.read(select_1)) == 1
        server.stop()
        with pytest.raises(StoreUnavailable):
            await sessions.run(select_1)
        server.start()

        assert await once_available(lambda: sessions.read(select_1)) == 1


async def test_a_commit_that_no_synchronous_standby_has_confirmed_is_not_made_visible_by_a_time_out(
    server: PostgresServer,
) -> None:
    await execute(server.dsn, MAKE_TABLE)
    await execute(server.dsn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await execute(server.dsn, "SELECT pg_reload_conf()")
    async with impatient(server.dsn) as sessions:
        await _wait_until_reloaded(sessions)
        with pytest.raises(StoreUnavailable):
            await sessions.run(lambda transaction: add(transaction, 1))

        assert await once_available(lambda: stored(sessions)) == []


async def _wait_until_reloaded(sessions: Sessions) -> None:
    async def look(transaction: Transaction) -> str:
        found: str = await transaction.connection.fetchval("SELECT current_setting('synchronous_standby_names')")
        return found

    async with asyncio.timeout(50):
        while not await once_available(lambda: sessions.read(look)):
            continue


async def test_the_first_host_that_answers_is_used(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.postgres.server.HOST_SECONDS", 0.7)
    upstream = dsn.partition("@")[2].partition("/")[0]
    async with FaultProxy(upstream) as away:
        away.black_hole()
        several = dsn.replace(upstream, f"{away.listen},{upstream}")
        async with opened(several) as sessions:
            assert await sessions.read(select_1) == 1


async def test_a_server_that_takes_no_writes_is_unavailable_until_it_does(dsn: str) -> None:
    name = dsn.rpartition("/")[2]
    await execute(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with impatient(dsn) as sessions:
        with pytest.raises(StoreUnavailable):
            await sessions.run(select_1)
        await execute(dsn.replace(name, "postgres"), f"ALTER DATABASE {name} SET default_transaction_read_only = off")

        assert await once_available(lambda: sessions.run(select_1)) == 1


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
