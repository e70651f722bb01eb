"""What the service says of a standby that is not synchronous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.store.postgres import PostgresStore
from tests.postgres_server import PostgresServer, find_programs, running_postgres
from tests.service.patience import open_patiently

STREAMING = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'"


@pytest.fixture
async def administrator() -> AsyncIterator[asyncpg.Connection]:
    """A connection to a server that waits for no standby, and has one; and a plain role "mo" with a database."""
    with running_postgres() as primary:
        standby = PostgresServer(find_programs())
        try:
            await asyncio.to_thread(standby.copy, primary)
            await asyncio.to_thread(standby.start)
            connection = await asyncpg.connect(primary.dsn)
            while True:
                if await connection.fetchval(STREAMING):
                    break
                await asyncio.sleep(0.02)
            await connection.execute("CREATE ROLE mo LOGIN")
            await connection.execute("CREATE DATABASE mo OWNER mo")
            yield connection
            await connection.close()
        finally:
            standby.remove()


async def find_concerns(administrator: asyncpg.Connection) -> str:
    port = await administrator.fetchval("SELECT inet_server_port()")
    store: PostgresStore = await open_patiently(f"postgresql://mo@127.0.0.1:{port}/mo")
    try:
        return "\n".join(await store.find_concerns())
    finally:
        await store.close()


async def test_a_postgres_standby_that_the_service_may_not_see_is_no_silence(
    administrator: asyncpg.Connection,
) -> None:
    hidden = await find_concerns(administrator)
    await administrator.execute("GRANT pg_monitor TO mo")
    seen = await find_concerns(administrator)

    assert "GRANT pg_monitor TO mo" in hidden
    assert "no standby of PostgreSQL is synchronous" in seen
    assert "pg_monitor" not in seen
