"""Connections, as many as are allowed: kept while they are good, thrown away when anything is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from service.errors import StoreUnavailable

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

MOST_WAITING = 2000

# The connection is no good any more: gone, its server going or not there yet, or a standby that takes no writes.
LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)


class Pool:
    """Lends connections that `connect` makes; the one that was used last goes first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._waiting = 0
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection outside of any transaction, to be given back so; else it is closed.

        When it was lost, the idle ones are closed too: they were to the same server.
        """
        await self._wait()
        try:
            connection = await self._take()
            try:
                yield connection
            except LOST:
                connection.terminate()
                self._close_idle()
                raise
            except Exception:
                self._give_back(connection)
                raise
            except BaseException:  # cancelled in the middle of something
                connection.terminate()
                raise
            self._give_back(connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Wait until what was lent is back, and close everything. A repeat does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for _ in range(self._size):
            await self._free.acquire()
        self._close_idle()

    async def _wait(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store is closed; retry when the service is back")
        if self._waiting >= MOST_WAITING:
            raise StoreUnavailable("the store has too much waiting; retry")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._connect()

    def _give_back(self, connection: Connection) -> None:
        if connection.is_closed():
            return
        if self._is_closed or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().terminate()
