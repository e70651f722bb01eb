"""A connection that only reads, on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from service.errors import StoreUnavailable
from service.store.sqlite.schema import open_reader

T = TypeVar("T")


class Reader:
    """One read-only connection on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._is_closed = False
        self._connection = open_reader(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-reader")

    async def run(self, look: Callable[[apsw.Connection], T]) -> T:
        """Return what `look` finds."""
        if self._is_closed:
            raise StoreUnavailable("the store is closed; retry when the service is back")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, look, self._connection)
        except apsw.Error as error:
            raise StoreUnavailable("the store can't be read; retry") from error

    async def close(self) -> None:
        """Finish what was asked for and close the connection. A repeat does nothing."""
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()
