"""Statements for many rows at a time.

Each execution of a statement costs as much as a row or two in it, and gives the interpreter away. So a statement is
made for 1, 2, 4 … rows, and rows go in the largest that they fill: 100 in three.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import apsw

SIZES = (64, 32, 16, 8, 4, 2, 1)
"""In rows. Each size of each statement stays prepared, if the connection keeps enough of them."""

MARK = "VALUES ?"


class ManyRows:
    """A statement with `VALUES ?` in it, where its rows go."""

    def __init__(self, statement: str, row: str) -> None:
        """`row` is one row's, such as `(?, ?, 1)`."""
        before, mark, after = statement.partition(MARK)
        if not mark:
            raise ValueError(f"no {MARK}")
        self._statements = [(size, f"{before}VALUES {', '.join([row] * size)}{after}") for size in SIZES]

    def run(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]], *, keep: bool = True) -> None:
        """Run for all rows, in order: `row` takes as many values as a row has.

        What stays prepared holds the values that it had last: don't `keep` it after large ones.
        """
        start = 0
        for size, statement in self._statements:
            while start + size <= len(rows):
                values = tuple(chain.from_iterable(rows[start : start + size]))
                connection.execute(statement, values, can_cache=keep)
                start += size
