"""Connections, as many as are allowed: kept while they are good, thrown away when anything is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from service.errors import GatewayError, StoreUnavailable

if TYPE_CHECKING:
    from typing import TypeAlias

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
)


class Pool:
    """Lends connections that `connect` makes, the one that was used last first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._free = asyncio.Semaphore(size)
        self._size = size
        self._idle: list[Connection] = []
        self._waiting = 0
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, outside of any transaction and to be given back so.

        It is closed when it comes back with an exception that isn't the database's answer. When it was lost, the idle
        ones are closed too: they were to the same server.
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
            except (GatewayError, asyncpg.PostgresError, _Rolled):
                raise
            except BaseException:
                connection.terminate()
                raise
            finally:
                self._give_back(connection)
        finally:
            self._free.release()
