"""`mo-service copy`: moves a stopped installation from SQLite to PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from service.copying import CopiedTable, copy_store
from service.errors import StoreRefused
from service.flag_types import StoreUrl
from service.privacy import keep_private
from service.progress import progress
from service.settings import CONTEXT, NEEDS_ASYNCPG
from service.store.sqlite.source import SqliteSource
from service.tables import plain_table
from service.thorough_command import ThoroughCommand

HELP = """
Move a stopped service's store from SQLite to PostgreSQL, with everything in it.

SOURCE is the file of a service that is stopped: it is only read. TARGET is an empty database whose owner is the role
of the DSN, straight at PostgreSQL, not at a pooler. Leave its password out of the command line: PGPASSWORD and
~/.pgpass hold it as well.

Meanwhile shims journal what comes in, and hand it over to the new service: nothing is lost. What was stopped in the
middle goes on where it was when the same command runs again; until the copy is finished no service starts on TARGET. In
the end both are read again and compared, row by row.

The order of each conversation, leases, cursors and revisions go on as if it were the same store. The secrets of
channels are copied sealed: the new service needs the same --secrets-key.
"""

EXAMPLES = """
\b
Example:
  systemctl stop mo-service
  mo-service copy sqlite:////var/lib/mo/mo.db postgresql://mo@db.internal/mo
  mo-service --store postgresql://mo@db.internal/mo --secrets-key /etc/mo/secrets.key
"""

NEXT = """
Everything is there: each table has as many rows in both, and the same checksum.
Now start mo-service with the new --store and the same --secrets-key, if it had one. Shims go on where they were.
Keep the old file as a back-up; no service may start on it again.
"""


def build_command() -> click.Command:
    """Return the command."""
    return ThoroughCommand(
        "copy",
        params=[
            click.Argument(["source"], type=StoreUrl()),
            click.Argument(["target"], type=StoreUrl()),
            click.Option(["--quiet"], is_flag=True, default=False, help="Only say what fails.", show_envvar=True),
        ],
        callback=_copy,
        help=HELP,
        epilog=EXAMPLES,
        context_settings=CONTEXT,
        find_conflicts=_find_conflicts,
    )


def _find_conflicts(given: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(given.get("source", Path()), Path):
        yield "SOURCE has to be a SQLite file: sqlite:////var/lib/mo/mo.db"
    if not isinstance(given.get("target", ""), str):
        yield "TARGET has to be a PostgreSQL database: postgresql://USER@HOST/DATABASE"


def _copy(source: Path, target: str, *, quiet: bool) -> None:
    keep_private()
    try:
        copied = asyncio.run(_run(source, target, is_quiet=quiet))
    except StoreRefused as error:
        sys.stderr.write(f"mo-service copy: {error}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("mo-service copy: stopped; the same command goes on where it was\n")
        raise SystemExit(130) from None
    if not quiet:
        sys.stdout.write(_describe(copied))
        sys.stderr.write(NEXT)


async def _run(path: Path, dsn: str, *, is_quiet: bool) -> Sequence[CopiedTable]:
    try:
        from service.store.postgres.target import PostgresTarget
    except ModuleNotFoundError:
        raise StoreRefused(NEEDS_ASYNCPG) from None
    source = SqliteSource.open(path)
    try:
        target = await PostgresTarget.open(dsn)
        try:
            steps = 2 * sum(source.count(table) for table in source.tables)
            with progress("Copying and comparing", steps, is_wanted=not is_quiet) as advance:
                return await copy_store(source, target, advance)
        finally:
            target.close()
    finally:
        source.close()


def _describe(copied: Sequence[CopiedTable]) -> str:
    rows = [[name, str(content.rows), f"{content.checksum:032x}"] for name, content in copied]
    return plain_table(["table", "rows", "checksum"], rows)
