"""How a row of SQLite becomes one of PostgreSQL, and how the two are compared. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from service.errors import StoreRefused

Row = tuple[Any, ...]
Convert = Callable[[Any], Any]

FILLED: Mapping[tuple[str, str], Any] = {
    ("channel_activity", "counter"): 0,  # there, what was counted of a channel is in several rows
    ("lane", "newest"): 0,  # every sequence that is still to come is greater than those that were copied
}
"""Columns that only PostgreSQL has, and what they hold in a copy."""


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _as_it_is(value: Any) -> Any:
    return value


CONVERSIONS: Mapping[str, Convert] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "double precision", "text", "bytea"), _as_it_is),
    "boolean": bool,
    "jsonb": _canonical,
    "text[]": json.loads,
}
"""What a value of SQLite is in a column of a type of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class TableCopy:
    """One table: which columns are written, and how they are made of the source's row."""

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    filled: Row

    def convert(self, row: Sequence[Any]) -> Row:
        """Return a row of the source as the target has it."""
        converted = (
            None if value is None else CONVERSIONS[kind](value) for value, kind in zip(row, self.types, strict=False)
        )
        return *converted, *self.filled

    def read_back(self, row: Iterable[Any]) -> Row:
        """Return a row of the target as `convert` made it."""
        return tuple(
            _canonical(value) if kind == "jsonb" and value is not None else value
            for value, kind in zip(row, self.types, strict=True)
        )


class Sum(NamedTuple):
    """What a table holds, whatever the order of its rows."""

    rows: int = 0
    checksum: int = 0

    def add(self, row: Row) -> Sum:
        """Return the sum with one more row."""
        digest = blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return Sum(self.rows + 1, (self.checksum + int.from_bytes(digest)) % 2**128)


def plan_copy(source: Mapping[str, Sequence[str]], target: Mapping[str, Mapping[str, str]]) -> Sequence[TableCopy]:
    """Return how each table is copied, from the columns of both and the types of the target.

    Raises `StoreRefused` when anything of one is not in the other and not in `FILLED`: nothing may be forgotten.
    """
    faults = [f"table {name}" for name in sorted(source.keys() ^ target.keys())]
    plans = []
    for name in sorted(source.keys() & target.keys()):
        extra = [column for column in target[name] if (name, column) in FILLED]
        columns = [*source[name], *extra]
        faults += [f"column {name}.{column}" for column in sorted(set(columns) ^ target[name].keys())]
        types = [target[name].get(column, "nothing") for column in columns]
        faults += [f"{name}.{column}: {kind}" for column, kind in zip(columns, types, strict=True) if _is_odd(kind)]
        plans.append(TableCopy(name, columns, types, tuple(FILLED[name, column] for column in extra)))
    if faults:
        raise StoreRefused(f"this mo-service can't copy {', '.join(faults)}; use a newer one")
    return plans


def _is_odd(kind: str) -> bool:
    return kind not in CONVERSIONS and kind != "nothing"
