"""A store on each database, on a clock that the test moves; and a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.store.contract import Store
from service.store.sqlite import SqliteStore
from tests.postgres_server import Databases, open_databases
from tests.service.builders import ManualClock
from tests.service.patience import PATIENCE_SECONDS, open_patiently
from tests.service.stubs import Client, serving


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """Give a store more time than the service does: a machine that stalls is no store that is away.

    Who tests what comes of these times sets them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.store.sqlite.writer.DEADLINE_SECONDS", PATIENCE_SECONDS)
        patch.setattr("service.store.counting.PATIENCE_SECONDS", PATIENCE_SECONDS)
        patch.setattr("service.store.postgres.STARTING_SECONDS", PATIENCE_SECONDS)
        patch.setattr("service.store.postgres.server.HOST_SECONDS", PATIENCE_SECONDS)
        patch.setattr("service.store.postgres.listening.ANSWER_SECONDS", PATIENCE_SECONDS)
        yield


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
        opened = await open_patiently(dsn, clock)
        yield opened
        await opened.close()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path) as connected:
        yield connected
