"""Moves a stopped service's store to another database: everything in it, checked at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from service.errors import StoreRefused
from service.store.table_copy import Row, Sum, TableCopy, plan_copy

if TYPE_CHECKING:
    from service.store.postgres.target import PostgresTarget
    from service.store.sqlite.source import SqliteSource

BATCH_ROWS = 5_000
BATCH_BYTES = 8 * 2**20

Advance = Callable[[int], None]
"""Told of rows that are done."""


class CopiedTable(NamedTuple):
    """A table that is the same in both stores."""

    name: str
    content: Sum


async def copy_store(source: SqliteSource, target: PostgresTarget, advance: Advance) -> Sequence[CopiedTable]:
    """Copy everything, compare it, and let the target be used; go on where an earlier try of the same copy ended.

    `advance` hears of each row twice: once it is copied, and once it is compared. Raises `StoreRefused` when the target
    holds anything else, or isn't the same in the end.
    """
    tables = plan_copy(source.tables, target.tables)
    done = await target.begin(source.state)
    for table in tables:
        advance(done[table.name])
        for batch in _batches(table.convert(row) for row in source.rows(table.name, skip=done[table.name])):
            await target.add(table, batch)
            advance(len(batch))
    copied = [CopiedTable(table.name, await _compare(source, target, table, advance)) for table in tables]
    highest = {sequence: source.highest(name, column) for name, column, sequence in await target.load_sequences()}
    await target.finish(highest)
    return copied


def _batches(rows: Iterator[Row]) -> Iterator[Sequence[Row]]:
    """Put rows together, so that none of it is too much to have in memory."""
    while batch := list(islice(rows, 1)):
        size = _measure(batch[0])
        while len(batch) < BATCH_ROWS and size < BATCH_BYTES and (row := next(rows, None)) is not None:
            batch.append(row)
            size += _measure(row)
        yield batch


def _measure(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, bytes | str))


async def _compare(source: SqliteSource, target: PostgresTarget, table: TableCopy, advance: Advance) -> Sum:
    """Return what a table holds. Raises `StoreRefused` when it isn't the same in both."""
    wanted = found = Sum()
    for row in source.rows(table.name):
        wanted = wanted.add(table.convert(row))
    async for row in target.rows(table):
        found = found.add(row)
        if found.rows % 1000 == 0:
            advance(1000)
    advance(found.rows % 1000)
    if found != wanted:
        raise StoreRefused(
            f"the copy of {table.name} differs: {found.rows} rows instead of {wanted.rows}, checksum "
            f"{found.checksum:032x} instead of {wanted.checksum:032x}; drop the database, make it anew, and copy again"
        )
    return wanted
