"""Stores that are given time: what a stalled machine makes late is not what is tested."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import StoreUnavailable
from service.store.contract import Clock
from service.store.postgres import PostgresStore

PATIENCE_SECONDS = 100.0

T = TypeVar("T")


async def open_patiently(dsn: str, clock: Clock | None = None) -> PostgresStore:
    """Open a store whose operations may take longer than a caller would wait."""
    return await PostgresStore.open(dsn, clock=clock, deadline_seconds=PATIENCE_SECONDS)


async def once_available(look: Callable[[], Awaitable[T]]) -> T:
    """Return what is found once the store can be reached; the test's own time-out ends it."""
    while True:
        try:
            return await look()
        except StoreUnavailable:
            continue
