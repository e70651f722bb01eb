"""A store of its own, in step with a caller that isn't asynchronous."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from service.models import (
    AckStatus,
    AckToken,
    DeadLetter,
    DeadLetterSelection,
    MessageFilter,
    Settlement,
    SettlementKind,
)
from service.store.contract import Store
from service.store.postgres import PostgresStore
from service.store.sqlite import SqliteStore
from tests.postgres_server import Databases
from tests.service.builders import ManualClock
from tests.service_properties.knowledge import Snapshot

T = TypeVar("T")

EVERYTHING = DeadLetterSelection()
PATIENCE_SECONDS = 60.0


class OpenedStore:
    """On a clock that stands still until it is moved, in one of these databases or in SQLite; close it in the end."""

    def __init__(self, databases: Databases | None = None) -> None:
        self.clock = ManualClock()
        self._runner = asyncio.Runner()
        self._place = AsyncExitStack()
        self._address = self.run(self._place.enter_async_context(_new_place(databases)))
        self.store = self.run(self._open())

    def close(self) -> None:
        self.run(self.store.close())
        self.run(self._place.aclose())
        self._runner.close()

    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.run(self._open())

    def ask(self, destination: str, token: AckToken, kind: SettlementKind, seconds: float | None = None) -> AckStatus:
        (status,) = self.run(self.store.settle(destination, [Settlement(token, kind, seconds)]))
        return status

    def read(self) -> tuple[Snapshot, Sequence[DeadLetter]]:
        """Return all messages and dead letters."""
        return self.run(self._read())

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        return self._runner.get_loop().run_until_complete(operation)  # run() costs a signal handler each time

    async def _read(self) -> tuple[Snapshot, Sequence[DeadLetter]]:
        page = await self.store.list_messages(MessageFilter(), before=None, limit=1000)
        letters = await self.store.list_dead_letters(EVERYTHING, before=None, limit=1000)
        return {stored.payload.decode(): stored for stored in page.messages}, letters

    async def _open(self) -> Store:
        return await open_store(self._address, self.clock)


async def open_store(place: Path | str, clock: ManualClock) -> Store:
    """Open the store in a file, or at a DSN. No machine is so slow that this one gives an operation up."""
    if isinstance(place, Path):
        return SqliteStore.open(place, clock=clock)
    return await PostgresStore.open(place, clock=clock, deadline_seconds=PATIENCE_SECONDS)


@asynccontextmanager
async def _new_place(databases: Databases | None) -> AsyncIterator[Path | str]:
    if databases is not None:
        async with databases.database(is_one_of_many=True) as dsn:
            yield dsn
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
        yield Path(folder) / "mo.db"
