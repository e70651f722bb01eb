"""Opens the database: whether it may be used, and at which schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import StoreRefused
from service.store.migrations import Migration, check_usable, load_migrations

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection

MIGRATION_LOCK = 0x4149_4D4F_5F4D_4F53
"""The key of the lock that lets one process at a time look at the schema and change it."""

OLDEST_SERVER = 15

LONGEST_WAIT = "SET LOCAL lock_timeout = '60s'"


async def migrate(connection: Connection) -> None:
    """Bring the schema up to date, all or nothing. Raises `StoreRefused` before anything is changed.

    Processes that start together wait for the first one. A schema that is newer than this code is left as it is, and
    used if it says that this code may.
    """
    if connection.get_server_version().major < OLDEST_SERVER:
        raise StoreRefused(f"the store's PostgreSQL is older than {OLDEST_SERVER}; upgrade it, or give another --store")
    migrations = load_migrations("postgres")
    async with connection.transaction():
        await connection.execute(LONGEST_WAIT)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        if await is_being_copied_to(connection):
            raise StoreRefused(
                "a copy into the store's database was not finished; run the same mo-service copy again, it goes on "
                "where it was"
            )
        version, oldest_code = await read_version(connection)
        check_usable(version=version, oldest_code=oldest_code, newest_known=len(migrations))
        for migration in migrations[version:]:
            await _apply(connection, migration)


async def is_being_copied_to(connection: Connection) -> bool:
    """Whether a copy into this database was begun and not finished: it has its progress there."""
    progress = await connection.fetchval("SELECT to_regclass('copy_progress')")
    return progress is not None


async def read_version(connection: Connection) -> tuple[int, int]:
    """Return a database's schema, 0 when it is empty, and the oldest code that may use it. Raises `StoreRefused`."""
    tables = await connection.fetchval(
        "SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
        "AND relkind IN ('r', 'p')"
    )
    if not tables:
        return 0, 0
    if "schema_version" not in tables:
        raise StoreRefused("the database holds tables of another program; give a --store with a database of its own")
    row = await connection.fetchrow("SELECT version, oldest_code FROM schema_version")
    if row is None:
        raise StoreRefused("the database's schema_version is empty; restore a back-up of the store")
    return row["version"], row["oldest_code"]


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.sql)
    await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer, oldest_code integer)")
    await connection.execute("DELETE FROM schema_version")
    await connection.execute("INSERT INTO schema_version VALUES ($1, $2)", migration.number, migration.oldest_code)
