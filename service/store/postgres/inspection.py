"""Looks a PostgreSQL database over, also while services use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg

from service.errors import StoreRefused
from service.store.inspection import (
    Content,
    Finding,
    IndexFigures,
    Inspection,
    TableFigures,
    find_outdated,
    find_unsettled,
    find_waiting,
)
from service.store.migrations import load_migrations
from service.store.postgres.concerns import find_concerns
from service.store.postgres.destinations import list_destinations
from service.store.postgres.pool import LOST
from service.store.postgres.schema import is_being_copied_to, read_version
from service.store.postgres.server import Server
from service.store.postgres.session import NOW, Transaction

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection

# Whatever the role or a pooler has set otherwise.
BEGIN = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL application_name = 'mo-service check'; SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '5s'
"""

SERVER = """
SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS database_bytes,
       has_function_privilege('pg_ls_waldir()', 'execute') AS may_see_wal,
       current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS "synchronous commit",
       current_setting('synchronous_standby_names') AS "synchronous standbys",
       (SELECT count(*) FROM pg_stat_replication) AS "standbys connected",
       (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)) AS "oldest transaction, seconds",
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS "transactions since freezing",
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS "connections"
"""

# Rows are those that the last VACUUM or ANALYZE counted, and what was counted since where there was none.
TABLES = """
SELECT c.relname::text AS name,
       CASE WHEN c.reltuples < 0 THEN coalesce(s.n_live_tup, 0) ELSE c.reltuples::bigint END AS rows,
       pg_table_size(c.oid) AS table_bytes, pg_indexes_size(c.oid) AS index_bytes,
       coalesce(s.n_dead_tup, 0) AS dead_rows,
       coalesce(s.seq_scan, 0) AS seq_scans, coalesce(s.idx_scan, 0) AS idx_scans,
       coalesce(s.last_analyze, s.last_autoanalyze) IS NULL AS is_unknown
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY c.relname
"""

INDEXES = """
SELECT c.relname::text AS name, t.relname::text AS "table", pg_relation_size(c.oid) AS size_bytes,
       coalesce(s.idx_scan, 0) AS scans, i.indisvalid AS is_valid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'i' ORDER BY t.relname, c.relname
"""

IDLE_SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE NOT active ORDER BY slot_name"

WAITING = """
SELECT (SELECT count(*) FROM message WHERE hold_reason IS NOT NULL), count(*), count(*) FILTER (WHERE is_accepted)
FROM quarantine WHERE settled_at IS NULL
"""

CONNECTING_SECONDS = 10.0

MANY_ROWS = 100_000
MANY_DEAD_ROWS = 50_000
MANY_SCANS = 1_000
OLDEST_TRANSACTIONS = 1_000_000_000
"""PostgreSQL stops at two thousand million, and freezes by itself from 200 million on."""


async def inspect_database(dsn: str) -> Inspection:
    """Look a store over. Raises `StoreRefused` when it can't be read."""
    server = Server(dsn)
    try:
        connection = await server.connect_patiently(CONNECTING_SECONDS)
        try:
            await connection.execute(BEGIN)
            return await _inspect(connection, server)
        finally:
            connection.terminate()
    except (*LOST, asyncpg.PostgresError) as error:
        raise StoreRefused(
            f"can't look at {server}: {str(error) or type(error).__name__}; see that PostgreSQL runs there, and that "
            "the role of the --store may read the tables"
        ) from None


async def _inspect(connection: Connection, server: Server) -> Inspection:
    schema, oldest_code = await read_version(connection)
    if schema == 0:
        raise StoreRefused(f"{server} holds no store yet; start mo-service on it, or give another --store")
    newest = len(load_migrations("postgres"))
    facts: dict[str, Any] = dict(await _fetch_row(connection, SERVER))
    tables, indexes = await connection.fetch(TABLES), await connection.fetch(INDEXES)
    transaction = Transaction(connection, await connection.fetchval(f"SELECT {NOW}"))
    # What an older schema lacks can't be asked for.
    content = await _look_inside(transaction) if schema >= newest >= oldest_code else None
    inspection = Inspection(
        store=str(server),
        engine=f"PostgreSQL {facts.pop('version')}",
        schema=schema,
        newest_known_schema=newest,
        database_bytes=facts.pop("database_bytes"),
        wal_bytes=await _measure_wal(connection) if facts.pop("may_see_wal") else None,
        free_bytes=None,
        rows_are_estimated=True,
        tables=[TableFigures(*list(row)[:5]) for row in tables],
        indexes=[IndexFigures(*list(row)[:4]) for row in indexes],
        settings=facts,
        content=content,
    )
    findings = [
        *find_outdated(schema, oldest_code, newest),
        *await _find_faults(transaction),
        *find_neglected(facts, tables, indexes),
        *find_unsettled(content or Content()),
    ]
    return replace(inspection, findings=findings)


async def _measure_wal(connection: Connection) -> int:
    size: int = await connection.fetchval("SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()")
    return size


async def _look_inside(transaction: Transaction) -> Content:
    statuses = await list_destinations(transaction)
    return Content(find_waiting(statuses, transaction.now), *await _fetch_row(transaction.connection, WAITING))


async def _find_faults(transaction: Transaction) -> list[Finding]:
    """Return what the service says of itself as a concern, and what only an operator can know to be wrong."""
    found = [Finding(what, action) for what, _, action in (s.partition("; ") for s in await find_concerns(transaction))]
    if await is_being_copied_to(transaction.connection):
        found.append(Finding("a copy into this database was not finished", "run the same mo-service copy again"))
    for (slot,) in await transaction.connection.fetch(IDLE_SLOTS):
        found.append(
            Finding(
                f'nobody reads the replication slot "{slot}", and the write-ahead log is kept for it',
                f"bring its standby back, or, when that is gone: SELECT pg_drop_replication_slot('{slot}')",
            )
        )
    return found


def find_neglected(server: Mapping[str, Any], tables: Sequence[Any], indexes: Sequence[Any]) -> Iterator[Finding]:
    """Yield what PostgreSQL hasn't kept up with, from the rows of `SERVER`, `TABLES` and `INDEXES`. Pure."""
    for row in tables:
        yield from _find_neglect_of(row)
    for row in indexes:
        if not row["is_valid"]:
            yield Finding(f"the index {row['name']} is not valid", f"REINDEX INDEX CONCURRENTLY {row['name']}")
    if server["transactions since freezing"] > OLDEST_TRANSACTIONS:
        yield Finding("the database is close to the end of its transaction numbers", "VACUUM FREEZE, soon")


def _find_neglect_of(table: Any) -> Iterator[Finding]:
    name, rows, dead = table["name"], table["rows"], table["dead_rows"]
    if dead > MANY_DEAD_ROWS and dead > rows // 2:
        yield Finding(
            f"{name} has {dead} dead rows beside {rows}: it isn't vacuumed often enough",
            f"VACUUM {name}; look for transactions that stay open, and raise autovacuum_vacuum_cost_limit",
        )
    if rows > MANY_ROWS and table["is_unknown"]:
        yield Finding(f"PostgreSQL has no statistics of {name}", f"ANALYZE {name}; see that autovacuum is on")
    if rows > MANY_ROWS and table["seq_scans"] > MANY_SCANS and table["seq_scans"] > table["idx_scans"] // 10:
        yield Finding(
            f"{name} was read as a whole {table['seq_scans']} times, and by an index {table['idx_scans']} times",
            f"ANALYZE {name}; if it goes on, look who does it: pg_stat_statements",
        )


async def _fetch_row(connection: Connection, statement: str) -> Any:
    return await connection.fetchrow(statement)
