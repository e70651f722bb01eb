"""A store on each database, on a clock that the test moves; and a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.store.contract import Store
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock
from tests.service.stubs import Client, serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite"])
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = SqliteStore.open(tmp_path / "mo.db", clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path) as connected:
        yield connected
