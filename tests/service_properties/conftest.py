"""The databases that rules are held against besides SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres_server import Databases, open_databases


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    with open_databases() as databases:
        yield databases
