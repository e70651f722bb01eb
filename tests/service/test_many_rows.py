"""Statements for many rows: as if each row had been one's own, in order."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from service.store.sqlite.many_rows import ManyRows

INSERT = ManyRows("INSERT INTO entry VALUES ? ON CONFLICT (id) DO NOTHING", row="(?, ?, 'same')")


@pytest.fixture
def connection() -> apsw.Connection:
    opened = apsw.Connection(":memory:")
    opened.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, kind TEXT)")
    return opened


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 200])
def test_every_row_is_inserted_once(connection: apsw.Connection, count: int) -> None:
    INSERT.run(connection, [(number, f"name {number}") for number in range(count)])

    found = connection.execute("SELECT * FROM entry ORDER BY id").fetchall()
    assert found == [(number, f"name {number}", "same") for number in range(count)]


def test_the_first_of_two_rows_with_one_key_is_kept_wherever_they_are(connection: apsw.Connection) -> None:
    INSERT.run(connection, [(number % 40, f"name {number}") for number in range(150)])

    found = connection.execute("SELECT id, name FROM entry ORDER BY id").fetchall()
    assert found == [(number, f"name {number}") for number in range(40)]


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_not_kept_leaves_nothing_of_its_rows_behind(connection: apsw.Connection, keep: bool) -> None:
    INSERT.run(connection, [(number, "large") for number in range(3)], keep=keep)

    found: Any = connection.cache_stats(include_entries=True)
    assert any("INSERT INTO entry" in each["query"] for each in found["entries"]) is keep


def test_a_statement_without_a_place_for_its_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no VALUES \?"):
        ManyRows("INSERT INTO entry VALUES (?)", row="(?)")
