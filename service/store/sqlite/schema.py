"""Opens the SQLite file: who may, with which settings, at which schema."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from service.errors import StoreRefused
from service.store.migrations import Migration, check_usable, load_migrations

APPLICATION_ID = 0x41494D4F  # "AIMO": says that a file is ours

STATEMENTS_KEPT = 1000
"""How many executions ago a statement may have been used last, and is still prepared: more than those of a transaction
of settlements, so that those that record are there for the next messages."""

# A commit is one fdatasync with FULL. The rest bounds memory and the WAL, and overwrites what is deleted.
WRITER_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA secure_delete = ON;
"""


def lock_file(path: Path) -> int:
    """Take the lock that says who serves this file; return its descriptor, which holds it.

    The kernel lets go of it when the process ends, however it ends. Raises `StoreRefused` when
    another process has it.
    """
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreRefused(
            f"another mo-service is using {path}: SQLite is for one service process; "
            "stop the other one, or give this one a --store of its own"
        ) from None
    return descriptor


def open_writer(path: Path) -> apsw.Connection:
    """Open the file for writing, at the newest schema. Raises `StoreRefused` before anything is changed."""
    # SQLite gives its other files the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), statementcachesize=STATEMENTS_KEPT)
    try:
        _migrate(connection, path)
        _close_to_others(path)
    except BaseException:
        connection.close()
        raise
    connection.execute(WRITER_SETTINGS).fetchall()  # else only the first one: a cursor stops at each row
    return connection


def _close_to_others(path: Path) -> None:
    """Take from others what somebody, or a back-up put back, may have given them. Raises `StoreRefused`."""
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".lock"))):
        try:
            if each.exists() and each.stat().st_mode & 0o077:
                each.chmod(0o600)
        except OSError as error:
            raise StoreRefused(
                f"others may read {each}, which is to hold messages: {error.strerror}; give it to the user that "
                "mo-service runs as (chown), or give another --store"
            ) from None


def open_reader(path: Path) -> apsw.Connection:
    """Open a connection that can only read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(1000)
    return connection


@contextmanager
def one_moment(connection: apsw.Connection) -> Iterator[None]:
    """Let every look at the database inside see the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _migrate(connection: apsw.Connection, path: Path) -> None:
    migrations = load_migrations("sqlite")
    version, oldest_code = read_version(connection, path)
    check_usable(version=version, oldest_code=oldest_code, newest_known=len(migrations))
    for migration in migrations[version:]:
        _apply(connection, migration)


def read_version(connection: apsw.Connection, path: Path) -> tuple[int, int]:
    """Return a file's schema, 0 when it is empty, and the oldest code that may use it. Raises `StoreRefused`."""
    try:
        is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
        application_id = connection.pragma("application_id")
    except apsw.NotADBError:
        raise StoreRefused(f"{path} is no SQLite file; give another --store") from None
    if is_empty:
        return 0, 0
    if application_id != APPLICATION_ID:
        raise StoreRefused(f"{path} is the SQLite file of another program; give another --store")
    version, oldest_code = connection.execute("SELECT version, oldest_code FROM schema_version").get
    return version, oldest_code


def _apply(connection: apsw.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(migration.sql)
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, oldest_code INTEGER) STRICT")
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?, ?)", (migration.number, migration.oldest_code))
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
