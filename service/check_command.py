"""`mo-service check`: how large the store is, how it stands, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from service.errors import StoreRefused
from service.settings import CONTEXT, NEEDS_ASYNCPG, store_flag
from service.store.inspection import Inspection
from service.tables import plain_table, seconds_text, size_text
from service.thorough_command import ThoroughCommand

HELP = """
Tell how large the store is, how it stands, and what to do about it.

Only looks, and may do so while the service runs. Exits with 0 when all is well, and with 1 when something needs to be
done, or when the store can't be read. Rows of PostgreSQL are estimates; those of SQLite are counted, which reads the
whole file. An index that was never used serves something that you haven't needed yet: leave it.
"""

EXAMPLES = """
\b
Examples:
  mo-service check --store sqlite:////var/lib/mo/mo.db
  mo-service check --store postgresql://mo@db.internal/mo --json | jq '.findings'
"""


def build_command() -> click.Command:
    """Return the command."""
    return ThoroughCommand(
        "check",
        params=[
            store_flag(),
            click.Option(["--json"], is_flag=True, default=False, help="Print one JSON object.", show_envvar=True),
        ],
        callback=_check,
        help=HELP,
        epilog=EXAMPLES,
        context_settings=CONTEXT,
    )


def _check(*, store: Path | str, json: bool) -> None:
    try:
        inspection = _inspect(store)
    except StoreRefused as error:
        sys.stderr.write(f"mo-service check: {error}\n")
        raise SystemExit(1) from None
    sys.stdout.write(_to_json(inspection) if json else "\n".join(_describe(inspection)))
    raise SystemExit(1 if inspection.findings else 0)


def _inspect(store: Path | str) -> Inspection:
    if isinstance(store, Path):
        from service.store.sqlite.inspection import inspect_file

        return inspect_file(store)
    try:
        from service.store.postgres.inspection import inspect_database
    except ModuleNotFoundError:
        raise StoreRefused(NEEDS_ASYNCPG) from None
    return asyncio.run(inspect_database(store))


def _to_json(inspection: Inspection) -> str:
    """Return one line. Named tuples become objects, too."""
    content = inspection.content
    figures = {
        "tables": [each._asdict() for each in inspection.tables],
        "indexes": [each._asdict() for each in inspection.indexes],
        "findings": [each._asdict() for each in inspection.findings],
        "content": content and {**asdict(content), "destinations": [each._asdict() for each in content.destinations]},
    }
    return json.dumps({**asdict(inspection), **figures}) + "\n"


def _describe(inspection: Inspection) -> Iterator[str]:
    """Yield the sections of the text, each with its last line's end."""
    yield plain_table([], list(_facts(inspection)))
    tables = [
        [
            table.name,
            str(table.rows),
            size_text(table.table_bytes),
            size_text(table.index_bytes),
            "" if table.dead_rows is None else str(table.dead_rows),
        ]
        for table in inspection.tables
    ]
    rows = "rows, about" if inspection.rows_are_estimated else "rows"
    yield plain_table(["table", rows, "size", "indexes", "dead rows"], tables)
    indexes = [
        [index.name, index.table, size_text(index.size_bytes), "" if index.scans is None else str(index.scans)]
        for index in inspection.indexes
    ]
    yield plain_table(["index", "of", "size", "used"], indexes)
    if inspection.content and inspection.content.destinations:
        yield plain_table(["destination", "backlog", "oldest", "dead letters"], list(_waiting(inspection)))
    if not inspection.findings:
        yield "All is well.\n"
    for what, action in inspection.findings:
        yield f"! {what}\n  to do: {action}\n"


def _facts(inspection: Inspection) -> Iterator[list[str]]:
    yield ["store", inspection.store]
    yield ["engine", inspection.engine]
    yield ["schema", f"{inspection.schema}, this mo-service knows {inspection.newest_known_schema}"]
    yield ["size", size_text(inspection.database_bytes)]
    for name, size in (("write-ahead log", inspection.wal_bytes), ("free inside", inspection.free_bytes)):
        if size is not None:
            yield [name, size_text(size)]
    for name, value in inspection.settings.items():
        yield [name, "-" if value in {None, ""} else str(value)]
    if inspection.content:
        yield ["held messages", str(inspection.content.held)]
        accepted = inspection.content.quarantined_accepted
        yield ["quarantine", f"{inspection.content.quarantined}, {accepted} of them accepted"]


def _waiting(inspection: Inspection) -> Iterator[list[str]]:
    for name, backlog, oldest_seconds, dead_letters in inspection.content.destinations if inspection.content else ():
        yield [name, str(backlog), "" if oldest_seconds is None else seconds_text(oldest_seconds), str(dead_letters)]
