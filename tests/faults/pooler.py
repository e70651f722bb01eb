"""PgBouncer in transaction mode, before PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.postgres_server import as_server, find_free_port, give_to_server

_START_SECONDS = 30.0
_LOOK_SECONDS = 0.05

# Twenty connections to the server serve all, so that a client's transactions are on many of them. One that doesn't
# answer is given up as fast as the service gives it up.
_SETTINGS = """
[databases]
{database} = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
server_connect_timeout = 1
server_login_retry = 0.2
query_timeout = 5
"""


@asynccontextmanager
async def running_pooler(dsn: str, parent: Path) -> AsyncIterator[str]:
    """Yield the DSN of a PgBouncer before `dsn`, whose folder is in `parent`."""
    program = find_pooler()
    folder = Path(tempfile.mkdtemp(prefix="mo-pgbouncer-", dir=parent))
    pooled, settings = _configure(dsn, folder)
    give_to_server(folder)  # as root it refuses to run
    process = await asyncio.create_subprocess_exec(*as_server(program, "-q", settings), cwd=folder)
    try:
        await _wait_until_it_answers(pooled, process)
        yield pooled
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def find_pooler() -> str:
    """Return the program; skip the test, or fail it in CI, where there is none."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found:
        return found
    reason = "no PgBouncer: install Debian's pgbouncer"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _configure(dsn: str, folder: Path) -> tuple[str, Path]:
    """Write its settings and return its DSN with them."""
    parts = urlsplit(dsn)
    listen_port = find_free_port()
    folder.joinpath("users").write_text('"postgres" ""\n', encoding="utf-8")
    settings = folder / "pgbouncer.ini"
    text = _SETTINGS.format(
        database=parts.path.removeprefix("/"),
        host=parts.hostname,
        port=parts.port,
        listen_port=listen_port,
        folder=folder,
    )
    settings.write_text(text, encoding="utf-8")
    return parts._replace(netloc=f"postgres@127.0.0.1:{listen_port}").geturl(), settings


async def _wait_until_it_answers(dsn: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            assert process.returncode is None, "PgBouncer doesn't start; see its log above"
            try:
                connection = await asyncpg.connect(dsn, statement_cache_size=0)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            await connection.close()
            return
