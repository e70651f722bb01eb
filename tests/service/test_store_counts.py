"""The contract of a store: what waits is counted for everybody who asks, and now and then where it is much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from service.errors import StoreUnavailable
from service.models import DestinationSettings, DestinationStatus
from service.store import counting
from service.store.contract import Store
from service.store.postgres.session import COUNT_SECONDS
from tests.service.builders import ManualClock, a_message
from tests.service.patience import open_patiently

MUCH = 3
"""More of them aren't counted for everybody."""

WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'lane'::regclass AND NOT granted"


@pytest.fixture(autouse=True)
def little_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_FOR_EVERYBODY", MUCH)
    monkeypatch.setattr(counting, "KEPT_SECONDS", 3600.0)


async def status_of(store: Store) -> DestinationStatus:
    (status,) = await store.list_destinations()
    return status


async def fill(store: Store, conversations: int) -> None:
    await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number}") for number in range(conversations)])


async def test_what_is_not_much_is_counted_for_each_call(store: Store, clock: ManualClock) -> None:
    await fill(store, MUCH - 1)
    assert (await status_of(store)).backlog == MUCH - 1
    await store.record([a_message("another", sender="whatsapp:+another")])
    clock.advance(1)

    status = await status_of(store)

    assert (status.backlog, status.counted_at) == (MUCH, clock.now)


async def test_what_is_much_is_not_counted_again_at_once(store: Store, clock: ManualClock) -> None:
    await fill(store, MUCH + 1)
    first = await status_of(store)
    await store.record([a_message("another", sender="whatsapp:+another")])
    clock.advance(1)

    assert await status_of(store) == first
    assert (first.backlog, first.counted_at) == (MUCH + 1, clock.now - 1_000_000)


async def test_what_is_much_is_counted_again_later(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(counting, "KEPT_TIMES", 0)
    await fill(store, MUCH + 1)
    await status_of(store)
    await store.record([a_message("another", sender="whatsapp:+another")])
    clock.advance(1)

    status = await status_of(store)

    assert (status.backlog, status.counted_at) == (MUCH + 2, clock.now)


async def test_many_dead_letters_are_much_too(store: Store, clock: ManualClock) -> None:
    await store.update_destination("default", lambda now: replace(now, max_attempts=1))
    await fill(store, MUCH + 1)
    await store.claim("default", limit=10, max_bytes=10**6, lease_seconds=1.0)
    clock.advance(2)
    await store.claim("default", limit=10, max_bytes=10**6, lease_seconds=1.0)
    first = await status_of(store)
    clock.advance(1)

    assert first.dead_letters == MUCH + 1
    assert await status_of(store) == first


async def test_settings_are_never_old(store: Store) -> None:
    await fill(store, MUCH + 1)
    await status_of(store)
    settings = DestinationSettings(max_attempts=3)
    await store.update_destination("default", lambda _: settings)

    assert (await status_of(store)).settings == settings


@asynccontextmanager
async def kept_from_counting(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Let counts wait while the block lasts."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("BEGIN; LOCK TABLE lane IN ACCESS EXCLUSIVE MODE")
        yield connection
    finally:
        await connection.close()


async def test_a_first_count_that_takes_long_goes_on_for_who_asks_next(
    dsn: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_patiently(dsn, clock)
    await fill(store, MUCH)
    async with kept_from_counting(dsn) as connection:
        monkeypatch.setattr(counting, "PATIENCE_SECONDS", 0.05)
        with pytest.raises(StoreUnavailable, match="still being counted"):
            await store.list_destinations()
        with pytest.raises(StoreUnavailable, match="still being counted"):
            await store.list_destinations()
        assert await connection.fetchval(WAITING) == 1, "the second one waits for the first one's count"
        monkeypatch.setattr(counting, "PATIENCE_SECONDS", 60.0)
        asking = asyncio.create_task(store.list_destinations())
    (status,) = await asking
    await store.close()

    assert status.backlog == MUCH


async def test_while_a_count_takes_long_the_one_before_it_is_told(
    dsn: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(counting, "KEPT_TIMES", 0)
    store = await open_patiently(dsn, clock)
    await fill(store, MUCH + 1)
    first = await status_of(store)
    clock.advance(1)
    async with kept_from_counting(dsn):
        monkeypatch.setattr(counting, "PATIENCE_SECONDS", 0.05)
        assert await status_of(store) == first
    await store.close()


async def test_a_store_that_is_closed_ends_its_count(
    dsn: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_patiently(dsn, clock)
    async with kept_from_counting(dsn):
        monkeypatch.setattr(counting, "PATIENCE_SECONDS", 0.05)
        with pytest.raises(StoreUnavailable):
            await store.list_destinations()
        async with asyncio.timeout(COUNT_SECONDS / 2):
            await store.close()
