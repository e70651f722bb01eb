"""Where the database is, and how it is connected to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from service.store.postgres.pool import LOST

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection

HOST_SECONDS = 0.7
"""How long a host may take, so that the next one has its turn within the deadline of an operation."""

PAUSE_SECONDS = 0.1


class Server:
    """Connects to a DSN: to the first of its hosts that takes writes, beginning with the one that did last.

    `is_pooled`: a pooler in transaction mode stands between, which knows nothing of prepared statements.
    """

    def __init__(self, dsn: str, *, is_pooled: bool = False) -> None:
        self._dsns = _split_hosts(dsn)
        self._cached_statements = 0 if is_pooled else 100
        # The pooler has chosen already; and a question outside of a transaction could get two halves of an answer.
        self._wanted = SessionAttribute.any if is_pooled else SessionAttribute.read_write
        # Compiling our statements takes 40 ms, running them one: 25 times the CPU where PostgreSQL thinks that it pays.
        # A pooler refuses settings that it doesn't know: there it takes ALTER DATABASE … SET jit = off.
        self._settings = {"application_name": "mo-service"} | ({} if is_pooled else {"jit": "off"})

    def __str__(self) -> str:
        """Tell where it is, without user and password."""
        return ", ".join(_name(dsn) for dsn in self._dsns)

    async def connect(self) -> Connection:
        """Return a connection. Raises what the last host failed with."""
        failure: Exception = OSError("no host is given")
        for dsn in list(self._dsns):
            try:
                connection = await asyncpg.connect(
                    dsn,
                    timeout=HOST_SECONDS,
                    target_session_attrs=self._wanted,
                    server_settings=self._settings,
                    statement_cache_size=self._cached_statements,
                )
            except (asyncpg.PostgresError, *LOST) as error:
                failure = error
            else:
                self._dsns.sort(key=lambda other: other != dsn)
                return connection
        raise failure

    async def connect_patiently(self, seconds: float) -> Connection:
        """Return a connection, also to a server that comes up within so many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                return await self.connect()
            except LOST:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)


def _split_hosts(dsn: str) -> list[str]:
    """Return a DSN for each host, since one that doesn't answer would keep the others from being tried."""
    parts = urlsplit(dsn)
    credentials, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in hosts.split(",")]


def _name(dsn: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
