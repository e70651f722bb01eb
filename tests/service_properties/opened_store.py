"""A store of its own, in step with a caller that isn't asynchronous."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Sequence
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
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock
from tests.service_properties.knowledge import Snapshot

T = TypeVar("T")

EVERYTHING = DeadLetterSelection()


class OpenedStore:
    """On a clock that stands still until it is moved; close it in the end."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
        self.store = self.run(self._open())

    def close(self) -> None:
        self.run(self.store.close())
        self._runner.close()
        self._folder.cleanup()

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
        return SqliteStore.open(Path(self._folder.name) / "mo.db", clock=self.clock)
