"""Looks a SQLite file over, also while a service uses it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import time_ns
from typing import Any

import apsw

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
from service.store.sqlite.destinations import list_destinations
from service.store.sqlite.schema import one_moment, open_reader, read_version

# A table that has no rowids is counted with its key.
SIZES = """
SELECT s.type, s.name, s.tbl_name, d.pgsize FROM dbstat d JOIN sqlite_schema s USING (name)
WHERE d.aggregate = TRUE AND s.name <> 'sqlite_sequence' ORDER BY s.tbl_name, s.name
"""

WAITING = """
SELECT (SELECT count(*) FROM message WHERE hold_reason IS NOT NULL), count(*), coalesce(sum(is_accepted), 0)
FROM quarantine WHERE settled_at IS NULL
"""

LARGE_WAL_BYTES = 256 * 2**20
"""A checkpoint is tried at 16 MiB, and cuts the log back to 64."""

MUCH_FREE_BYTES = 256 * 2**20


def inspect_file(path: Path) -> Inspection:
    """Look a store over. Raises `StoreRefused` when it can't be read."""
    if not path.is_file():
        raise StoreRefused(f"there is no {path}; give the --store of the service")
    try:
        connection = open_reader(path)
        try:
            with one_moment(connection):
                return _inspect(connection, path)
        finally:
            connection.close()
    except apsw.Error as error:
        raise StoreRefused(f"can't read {path}: {error}; run this as the user whose service it is") from None


def _inspect(connection: apsw.Connection, path: Path) -> Inspection:
    schema, oldest_code = read_version(connection, path)
    if schema == 0:
        raise StoreRefused(f"{path} holds no store yet; start mo-service on it, or give another --store")
    newest = len(load_migrations("sqlite"))
    tables, indexes = _measure(connection)
    page_bytes = connection.pragma("page_size")
    # What an older schema lacks can't be asked for.
    content = _look_inside(connection) if schema >= newest >= oldest_code else None
    inspection = Inspection(
        store=f"sqlite:///{path}",
        engine=f"SQLite {apsw.sqlite_lib_version()}",
        schema=schema,
        newest_known_schema=newest,
        database_bytes=connection.pragma("page_count") * page_bytes,
        wal_bytes=_size(path.with_name(f"{path.name}-wal")),
        free_bytes=connection.pragma("freelist_count") * page_bytes,
        rows_are_estimated=False,
        tables=tables,
        indexes=indexes,
        settings={
            "journal mode": connection.pragma("journal_mode"),
            "planner statistics": "yes" if connection.table_exists("main", "sqlite_stat1") else "none: none are needed",
        },
        content=content,
    )
    findings = [*find_outdated(schema, oldest_code, newest), *_find_faults(inspection, path)]
    return replace(inspection, findings=[*findings, *find_unsettled(content or Content())])


def _measure(connection: apsw.Connection) -> tuple[list[TableFigures], list[IndexFigures]]:
    sizes: list[Any] = connection.execute(SIZES).fetchall()
    indexes = [IndexFigures(name, table, size) for kind, name, table, size in sizes if kind == "index"]
    tables = [
        TableFigures(
            name,
            connection.execute(f"SELECT count(*) FROM {name}").get,
            size,
            sum(index.size_bytes for index in indexes if index.table == name),
        )
        for kind, name, _, size in sizes
        if kind == "table"
    ]
    return tables, indexes


def _look_inside(connection: apsw.Connection) -> Content:
    now = time_ns() // 1000
    row: Any = connection.execute(WAITING).fetchone()
    return Content(find_waiting(list_destinations(connection, now), now), *row)


def _find_faults(inspection: Inspection, path: Path) -> Iterator[Finding]:
    if inspection.wal_bytes is not None and inspection.wal_bytes > LARGE_WAL_BYTES:
        yield Finding(
            f"the write-ahead log has {inspection.wal_bytes} bytes: somebody reads the store for long",
            f"end whatever else has {path} open (lsof {path}), a back-up that hangs for example",
        )
    free = inspection.free_bytes or 0
    if free > MUCH_FREE_BYTES and free > inspection.database_bytes // 2:
        yield Finding(
            f"{free} bytes of {inspection.database_bytes} are free inside the file",
            "nothing, if the space will be used again; to give it back, stop the service and run: "
            f"sqlite3 {path} VACUUM",
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
