"""An empty database that a store is copied into: what was copied is noted with it, so that a copy can go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from service.errors import StoreRefused
from service.store.migrations import load_migrations
from service.store.postgres.pool import LOST
from service.store.postgres.schema import MIGRATION_LOCK, is_being_copied_to, migrate, read_version
from service.store.postgres.server import Server
from service.store.table_copy import Row, TableCopy

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection

CONNECTING_SECONDS = 10.0

COPY_LOCK = 0x4149_4D4F_434F_5059
"""The key of the lock that keeps a second copy away. The session has it."""

# Who was killed in the middle may have a moment left there.
SESSION = """
SET application_name = 'mo-service copy'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '30s'
"""

IS_USED = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mo-service')
"""

LOOKS = 30
LOOK_SECONDS = 0.1

COLUMNS = """
SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped AND c.relname NOT IN ('schema_version', 'copy_progress')
ORDER BY c.relname, a.attnum
"""

SEQUENCES = """
SELECT c.relname::text, a.attname::text, s.name
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
CROSS JOIN LATERAL (SELECT coalesce(
  pg_get_serial_sequence(quote_ident(c.relname), a.attname),
  substring(pg_get_expr(d.adbin, d.adrelid) FROM '^nextval\\(''(.+)''::regclass\\)$')
) AS name) AS s
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND s.name IS NOT NULL
"""

SEEDED = ("directory", "directory_change", "erasure_key", "heartbeat")
"""Tables that have a row from the beginning. The source's takes its place."""

BEGIN = """
CREATE TABLE copy_progress (
  table_name text PRIMARY KEY,
  rows bigint NOT NULL,
  source text NOT NULL
)
"""


class PostgresTarget:
    """A database that nobody else copies into until `close`. Open it with `PostgresTarget.open`."""

    def __init__(self, connection: Connection, server: Server, tables: Mapping[str, Mapping[str, str]]) -> None:
        self._connection = connection
        self._server = server
        self.tables = tables
        """The columns of each table, with their types."""

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """Open a database and make its schema. Raises `StoreRefused` when nothing may be copied into it."""
        server = Server(dsn)
        with _telling(f"can't use {server}"):
            connection = await server.connect_patiently(CONNECTING_SECONDS)
        try:
            with _telling(f"can't copy to {server}"):
                await _prepare(connection, server)
                return cls(connection, server, await _load_columns(connection))
        except BaseException:
            connection.terminate()
            raise

    async def begin(self, state: str) -> Mapping[str, int]:
        """Begin the copy of a source in this state, or go on with it; return how many rows each table has of it.

        Raises `StoreRefused` when the database holds anything else.
        """
        with _telling(f"can't copy to {self._server}"):
            async with self._connection.transaction():
                await self._connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                if not await is_being_copied_to(self._connection):
                    await self._check_empty()
                    await self._make_room(state)
            rows: list[Any] = await self._connection.fetch("SELECT table_name, rows, source FROM copy_progress")
        if any(source != state for _, _, source in rows):
            raise StoreRefused(
                f"{self._server} holds part of a copy of another store, or the source was used after that copy began; "
                "drop the database, make it anew, and copy again"
            )
        return {name: count for name, count, _ in rows}

    async def add(self, table: TableCopy, rows: Sequence[Row]) -> None:
        """Add rows to a table, and note how far it is, both at once."""
        with _telling(f"can't copy {table.name}"):
            async with self._connection.transaction():
                await self._connection.copy_records_to_table(table.name, records=rows, columns=table.columns)
                await self._connection.execute(
                    "UPDATE copy_progress SET rows = rows + $2 WHERE table_name = $1", table.name, len(rows)
                )

    async def rows(self, table: TableCopy) -> AsyncIterator[Row]:
        """Yield what a table holds now, in no order."""
        with _telling(f"can't read {table.name} again"):
            async with self._connection.transaction():
                statement = f"SELECT {', '.join(table.columns)} FROM {table.name}"
                async for row in self._connection.cursor(statement, prefetch=1000):
                    yield table.read_back(row)

    async def load_sequences(self) -> Sequence[tuple[str, str, str]]:
        """Return table, column and name of each sequence that numbers rows."""
        with _telling(f"can't read {self._server}"):
            return [tuple(row) for row in await self._connection.fetch(SEQUENCES)]

    async def finish(self, sequences: Mapping[str, int]) -> None:
        """Let sequences go on after these numbers, and the database be used. All of it, or nothing."""
        with _telling("can't finish the copy"):
            await self._connection.execute(f"ANALYZE {', '.join(self.tables)}")
            async with self._connection.transaction():
                for name, highest in sequences.items():
                    if highest:
                        await self._connection.execute("SELECT setval($1::text::regclass, $2)", name, highest)
                await self._connection.execute("DROP TABLE copy_progress")

    def close(self) -> None:
        """Let go of the database."""
        self._connection.terminate()

    async def _check_empty(self) -> None:
        if await self._is_used():
            raise StoreRefused(f"a mo-service is running on {self._server}; give a database of its own, an empty one")
        filled = [
            name
            for name in self.tables
            if name not in SEEDED and await self._connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})")
        ]
        if filled or await self._connection.fetchval("SELECT revision FROM directory"):
            raise StoreRefused(
                f"{self._server} is a store that holds something ({', '.join(filled) or 'directory'}); "
                "give an empty database"
            )

    async def _is_used(self) -> bool:
        """Whether a service runs on it. One that has just ended may still be seen for a moment."""
        for _ in range(LOOKS):
            if not await self._connection.fetchval(IS_USED):
                return False
            await asyncio.sleep(LOOK_SECONDS)
            await self._connection.execute("SELECT pg_stat_clear_snapshot()")
        return True

    async def _make_room(self, state: str) -> None:
        for name in SEEDED:
            await self._connection.execute(f"DELETE FROM {name}")
        await self._connection.execute(BEGIN)
        await self._connection.execute(
            "INSERT INTO copy_progress SELECT name, 0, $2 FROM unnest($1::text[]) AS name", list(self.tables), state
        )


async def _prepare(connection: Connection, server: Server) -> None:
    """Have the database to ourselves, at the schema of this code."""
    await connection.execute(SESSION)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", COPY_LOCK)
    except asyncpg.LockNotAvailableError:
        raise StoreRefused(f"another mo-service copy is running into {server}; let it end") from None
    version, _ = await read_version(connection)
    newest = len(load_migrations("postgres"))
    if version == 0:
        await migrate(connection)
    elif version != newest:  # left as it is: it may be somebody's store
        raise StoreRefused(
            f"{server} has schema {version} already, and this mo-service copies to schema {newest}; give an empty "
            "database, or end a copy with the mo-service that began it"
        )


async def _load_columns(connection: Connection) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in await connection.fetch(COLUMNS):
        tables.setdefault(table, {})[column] = kind
    return tables


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Say in our words what PostgreSQL refused. Its details are left out: they show rows."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreRefused(
            f"{what}: {_message(error)}; make the role of the DSN the owner of the database: "
            "ALTER DATABASE … OWNER TO …"
        ) from None
    except LOST as error:
        raise StoreRefused(
            f"{what}: {_message(error)}; see that PostgreSQL runs there and run the same command again: what was "
            "copied stays"
        ) from None
    except asyncpg.PostgresError as error:
        raise StoreRefused(f"{what}: {_message(error)}; mend that and run the same command again") from None


def _message(error: Exception) -> str:
    return str(getattr(error, "message", None) or error) or type(error).__name__
