"""Transactions on a database with a table of numbers, for tests of what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service.store.postgres.pool import Pool
from service.store.postgres.server import Server
from service.store.postgres.session import Sessions, Transaction
from tests.service.patience import PATIENCE_SECONDS

MAKE_TABLE = "CREATE TABLE entry (number integer PRIMARY KEY)"
ADD = "INSERT INTO entry VALUES ($1)"


@asynccontextmanager
async def opened(dsn: str, size: int = 4, *, deadline_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[Sessions]:
    pool = Pool(Server(dsn).connect, size)
    yield Sessions(pool, announce=lambda _: None, deadline_seconds=deadline_seconds)
    await pool.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def select_1(transaction: Transaction) -> int:
    one: int = await transaction.connection.fetchval("SELECT 1")
    return one


async def add(transaction: Transaction, number: int) -> int:
    await transaction.connection.execute(ADD, number)
    return transaction.attempt


async def stored(sessions: Sessions) -> list[int]:
    async def look(transaction: Transaction) -> list[int]:
        return [number for (number,) in await transaction.connection.fetch("SELECT number FROM entry ORDER BY 1")]

    return await sessions.read(look)


async def end_connections(dsn: str) -> None:
    """End all connections to a database."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    await execute(dsn, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
