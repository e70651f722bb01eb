"""A store on each database, on a clock that the test moves; and a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.store.contract import Store
from service.store.postgres import PostgresStore
from service.store.sqlite import SqliteStore
from tests.postgres_server import Databases, open_databases
from tests.service.builders import ManualClock
from tests.service.stubs import Client, serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    with open_databases() as databases:
        yield databases


@pytest.fixture
async def dsn(postgres: Databases) -> AsyncIterator[str]:
    """An empty store on PostgreSQL."""
    async with postgres.database() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        opened: Store = SqliteStore.open(tmp_path / "mo.db", clock=clock)
        yield opened
        await opened.close()
        return
    databases: Databases = request.getfixturevalue("postgres")
    async with databases.database() as dsn:
        opened = await PostgresStore.open(dsn, clock=clock)
        yield opened
        await opened.close()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path) as connected:
        yield connected
