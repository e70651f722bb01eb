"""Numbered SQL files, one folder a database, numbered in step.

A file's first line says which code may use the schema that it leaves behind:
`-- oldest-code: N`, N being the newest migration which that code knows.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

from service.errors import StoreRefused


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    oldest_code: int
    sql: str


def load_migrations(database: str) -> list[Migration]:
    """Return the migrations of a database (`sqlite`), in order, numbered from 1 without a gap."""
    folder = resources.files(__package__) / database
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    migrations = [_parse(name, (folder / name).read_text("utf-8")) for name in names]
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"the {database} migrations are not numbered 1 to {len(migrations)}: {names}")
    return migrations


def check_usable(*, version: int, oldest_code: int, newest_known: int) -> None:
    """Raise `StoreRefused` when the schema (at `version`) needs newer code than this."""
    if oldest_code > newest_known:
        raise StoreRefused(
            f"the store's schema {version} needs code that knows schema {oldest_code}, this one knows {newest_known}: "
            "start a newer mo-service, or restore a back-up of the store; nothing was changed"
        )


def _parse(name: str, sql: str) -> Migration:
    header = re.match(r"-- oldest-code: (\d+)\n", sql)
    if not header:
        raise ValueError(f"migration {name} doesn't begin with: -- oldest-code: N")
    return Migration(int(name.partition("_")[0]), int(header[1]), sql)
