"""A stopped service's file, to be copied: read as it is, table by table, whatever tables there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import apsw

from service.errors import StoreRefused
from service.store.migrations import load_migrations
from service.store.sqlite.schema import lock_file, open_reader, read_version

TABLES = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'
  AND name <> 'schema_version' ORDER BY name
"""

COLUMNS = "SELECT name, pk FROM pragma_table_info(?) ORDER BY cid"

# The heartbeat is written by every service that starts, so this changes whenever the file may have.
STATE = "SELECT directory_id || '-' || revision || '-' || written_at FROM directory, heartbeat"


class SqliteSource:
    """Holds the file's lock, so that nobody changes it until `close`. Open it with `SqliteSource.open`."""

    def __init__(self, connection: apsw.Connection, lock: int) -> None:
        self._connection = connection
        self._lock = lock
        self._keys: dict[str, str] = {}
        self.tables: Mapping[str, Sequence[str]] = {name: self._load_columns(name) for (name,) in self._run(TABLES)}
        """The columns of each table."""
        self.state: str = self._run(STATE).get
        """What differs between two sources, and between one and itself after it was used again."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file that no service uses. Raises `StoreRefused` when it must not be copied."""
        if not path.is_file():
            raise StoreRefused(f"there is no {path}; give the file that mo-service had as its --store")
        lock = _lock(path)
        try:
            return cls(_open(path), lock)
        except apsw.Error as error:
            os.close(lock)
            raise StoreRefused(f"can't read {path}: {error}; run this as the user whose service it is") from None
        except BaseException:
            os.close(lock)
            raise

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        count: int = self._run(f"SELECT count(*) FROM {table}").get
        return count

    def rows(self, table: str, *, skip: int = 0) -> Iterator[Sequence[Any]]:
        """Yield a table's rows, always in the same order, but for the first ones."""
        columns = ", ".join(self.tables[table])
        return self._run(f"SELECT {columns} FROM {table} ORDER BY {self._keys[table]} LIMIT -1 OFFSET ?", (skip,))

    def highest(self, table: str, column: str) -> int:
        """Return the highest number that a column has or had, 0 when there was none."""
        highest: int = self._run(f"SELECT coalesce(max({column}), 0) FROM {table}").get
        used: int | None = self._run("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).get
        return max(highest, used or 0)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        os.close(self._lock)

    def _load_columns(self, table: str) -> list[str]:
        columns: list[Any] = self._run(COLUMNS, (table,)).fetchall()
        keys = sorted((place, name) for name, place in columns if place)
        self._keys[table] = ", ".join(name for _, name in keys) or "rowid"
        return [name for name, _ in columns]

    def _run(self, statement: str, bindings: Sequence[Any] = ()) -> apsw.Cursor:
        return self._connection.execute(statement, bindings)


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except StoreRefused:
        raise StoreRefused(
            f"a mo-service is using {path}; stop it first: shims journal until the new one is there"
        ) from None
    except OSError as error:
        raise StoreRefused(f"can't lock {path}: {error.strerror}; run this as the user whose service it is") from None


def _open(path: Path) -> apsw.Connection:
    connection = open_reader(path)
    try:
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: apsw.Connection, path: Path) -> None:
    version, _ = read_version(connection, path)
    newest = len(load_migrations("sqlite"))
    if version == 0:
        raise StoreRefused(f"{path} is empty; give the file that mo-service had as its --store")
    if version < newest:
        raise StoreRefused(
            f"{path} has schema {version}, this mo-service copies schema {newest}: start this one on it once, stop it, "
            "and copy then"
        )
    if version > newest:
        raise StoreRefused(f"{path} has schema {version}, this mo-service knows {newest}: copy with a newer one")
