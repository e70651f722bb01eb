"""PostgreSQL as it is to be run where nothing may be lost, and everything that can be done to it.

A primary and a synchronous standby, each behind a link of its own; what they commit is on their disks. When the
primary is lost the standby is promoted, and a new one takes the lost one's place, on its address.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from tests.faults.pooler import running_pooler
from tests.faults.processes import kill_with_children
from tests.faults.proxy import FaultProxy
from tests.postgres_server import PARENT, PostgresServer, find_programs

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0

# Unlike other tests' servers, these have something to lose. A standby that was cut off is back soon.
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "hot_standby": "on",
    "wal_retrieve_retry_interval": "100ms",
    "log_min_messages": "error",
    "log_line_prefix": "%m %a ",
}

_CLIENTS = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
_STREAMING = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'"
_SYNCHRONOUS = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"


class Cluster:
    """Open it with `open_cluster`."""

    dsn: str
    """What a service is to connect to."""
    listen_dsn: str | None = None
    """What leads to PostgreSQL itself, where a pooler is at `dsn`."""

    def __init__(self) -> None:
        self._servers: list[PostgresServer] = []
        self.links: dict[PostgresServer, FaultProxy] = {}
        self.has_standby = False

    async def start(self, stack: AsyncExitStack, parent: Path, *, has_standby: bool, keeps_data: bool) -> None:
        """Start everything; see `open_cluster`."""
        programs = find_programs()
        for _ in range(2 if has_standby else 1):
            server = PostgresServer(programs, parent=parent, **_SETTINGS)
            stack.callback(server.stop if keeps_data else server.remove)
            stack.callback(lambda each: sys.stderr.write(each.log), server)  # for whoever looks into a failure
            self._servers.append(server)
            self.links[server] = await stack.enter_async_context(FaultProxy(urlsplit(server.dsn).netloc.split("@")[1]))
        await asyncio.to_thread(self._primary.initialise)
        await asyncio.to_thread(self._primary.start)
        if has_standby:
            await self._add_standby()
        # A primary that is gone stays in the list: its successor may take its address.
        self.dsn = f"postgresql://postgres@{','.join(link.listen for link in self.links.values())}/postgres"
        self.has_standby = has_standby

    @property
    def link(self) -> FaultProxy:
        """What lies between the services and the primary."""
        return self.links[self._primary]

    @property
    def title(self) -> str:
        """What it is, in a word or two."""
        with_what = ["a synchronous standby"] * self.has_standby + ["PgBouncer"] * bool(self.listen_dsn)
        return " with ".join(["PostgreSQL", *with_what])

    async def restart_immediately(self) -> None:
        """End the primary as `immediate` does, without a checkpoint, and start it again: it recovers."""
        await asyncio.to_thread(self._primary.stop, signal.SIGQUIT)
        await asyncio.to_thread(self._primary.start)

    async def kill(self) -> None:
        """End all processes of the primary with SIGKILL, as when its machine fails, and start it again."""
        await asyncio.to_thread(_kill, self._primary)
        await asyncio.to_thread(self._primary.start)

    async def end_connections(self) -> None:
        """Let the primary end all connections of clients."""
        await self._ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {_CLIENTS}")

    async def fail_over(self) -> None:
        """Lose the primary for good and promote the standby, which gets a new standby."""
        await asyncio.to_thread(_kill, self._primary)
        self._servers.reverse()
        assert await self._ask("SELECT pg_promote()")
        await self._add_standby()

    @property
    def _primary(self) -> PostgresServer:
        return self._servers[0]

    async def _add_standby(self) -> None:
        """Let the second server begin anew as a copy of the first; from then on nothing is committed without it."""
        standby = self._servers[1]
        await asyncio.to_thread(standby.copy, self._primary)
        await asyncio.to_thread(standby.start)
        await self._wait_until(_STREAMING)
        await self._ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self._ask("SELECT pg_reload_conf()")
        await self._wait_until(_SYNCHRONOUS)
        await self._ask("CHECKPOINT")  # whoever makes it has read the setting by then: it tells those that commit

    async def _wait_until(self, question: str) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                if await self._ask(question):
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def _ask(self, statement: str) -> object:
        """Run a statement on the primary, not over its link."""
        connection = await asyncpg.connect(self._primary.dsn, timeout=_PATIENCE_SECONDS)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


def _kill(server: PostgresServer) -> None:
    assert server.pid is not None
    kill_with_children(server.pid)
    server.stop(signal.SIGKILL)


@asynccontextmanager
async def open_cluster(
    parent: Path = PARENT, *, has_standby: bool = False, has_pooler: bool = False, keeps_data: bool = False
) -> AsyncIterator[Cluster]:
    """Start PostgreSQL, with a standby and with PgBouncer before it if wanted, its data in folders in `parent`.

    In the end they are removed, or kept for whoever looks into a failure.
    """
    cluster = Cluster()
    async with AsyncExitStack() as stack:
        await cluster.start(stack, parent, has_standby=has_standby, keeps_data=keeps_data)
        if has_pooler:
            cluster.listen_dsn = cluster.dsn
            cluster.dsn = await stack.enter_async_context(running_pooler(cluster.dsn, parent))
        yield cluster
