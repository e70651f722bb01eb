"""A PostgreSQL that keeps what it was told to keep: on a disk, with fsync, and one commit waits for its own."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.bench.measuring import tree_cpu_seconds
from tests.postgres_server import PostgresServer, find_programs, running_postgres

_DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "log_min_messages": "log",
}


class Database:
    """The server, and the databases on it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        assert self._server.pid is not None
        return tree_cpu_seconds(self._server.pid)

    def make(self, name: str) -> str:
        """Make an empty database; return its DSN."""
        asyncio.run(self._make(name))
        return urlunsplit(urlsplit(self._server.dsn)._replace(path=f"/{name}"))

    async def _make(self, name: str) -> None:
        connection = await asyncpg.connect(self._server.dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()


@contextlib.contextmanager
def running_database() -> Iterator[Database]:
    """Run a server of our own while the block lasts."""
    require_postgres()
    with running_postgres(parent=Path(tempfile.gettempdir()), **_DURABLE) as server:
        yield Database(server)


def require_postgres() -> Path:
    """Return the folder of PostgreSQL's programs, or end the program with a hint."""
    try:
        return find_programs()
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        sys.exit(f"bench: {reason}")


def postgres_version() -> str:
    """Return the server's version."""
    command = [str(require_postgres() / "postgres"), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]
