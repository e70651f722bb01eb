"""Replicas hear of each other's commits, soon, and again after they couldn't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

import asyncpg
import pytest

from service.models import Settlement, SettlementKind
from service.store.postgres import PostgresStore, listening
from tests.service.builders import a_channel, a_message
from tests.service.patience import open_patiently

END_LISTENERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (query ILIKE 'LISTEN%' OR query LIKE '%pg_notify%')
"""


@dataclass
class Heard:
    """What a listener was told; each kind can be waited for."""

    ready: set[str] = field(default_factory=set)
    arrivals: dict[str, int] = field(default_factory=dict)
    tellings: int = 0
    """Of arrivals."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    directory_changes: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_ready(self, destinations: Collection[str]) -> None:
        self.ready.update(destinations)
        self.news.set()

    def on_arrivals(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self.arrivals[name] = self.arrivals.get(name, 0) + count
        self.tellings += 1
        self.news.set()

    def on_dead_letters(self, counts: Mapping[str, int]) -> None:
        self.dead_letters.update(counts)
        self.news.set()

    def on_directory_change(self) -> None:
        self.directory_changes += 1
        self.news.set()

    async def wait_until_ready(self, *destinations: str) -> None:
        async with asyncio.timeout(30):
            while not self.ready.issuperset(destinations):
                self.news.clear()
                await self.news.wait()

    async def wait_for_arrivals(self, **counts: int) -> None:
        async with asyncio.timeout(30):
            while self.arrivals != counts:
                self.news.clear()
                await self.news.wait()

    async def wait_until_directory_changes(self) -> None:
        async with asyncio.timeout(30):
            while not self.directory_changes:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def here(dsn: str) -> AsyncIterator[PostgresStore]:
    store = await open_patiently(dsn)
    await store.connected()
    yield store
    await store.close()


@pytest.fixture
async def elsewhere(dsn: str) -> AsyncIterator[PostgresStore]:
    store = await open_patiently(dsn)
    await store.connected()
    yield store
    await store.close()


async def test_what_is_stored_by_one_replica_wakes_the_others(here: PostgresStore, elsewhere: PostgresStore) -> None:
    heard = Heard()
    here.listen(heard)

    await elsewhere.record([a_message("SM1", destinations=("bot", "archive")), a_message("SM2", destinations=("bot",))])

    await heard.wait_until_ready("bot", "archive")
    assert heard.arrivals == {"bot": 2, "archive": 1}


async def test_a_replica_hears_of_its_own_commits_once_and_at_once(
    here: PostgresStore, elsewhere: PostgresStore
) -> None:
    heard = Heard()
    here.listen(heard)

    await here.record([a_message("SM1", destinations=("bot",))])
    assert heard.arrivals == {"bot": 1}

    await elsewhere.record([a_message("SM2", destinations=("archive",))])
    await heard.wait_until_ready("archive")
    assert heard.arrivals == {"bot": 1, "archive": 1}


async def test_what_comes_soon_after_something_was_told_is_told_together(
    here: PostgresStore, elsewhere: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSE_SECONDS", 0.5)
    heard = Heard()
    here.listen(heard)

    for number in range(40):
        await elsewhere.record([a_message(f"SM{number}")])
    await heard.wait_for_arrivals(default=40)

    assert heard.tellings < 20


async def test_a_change_of_the_directory_reaches_the_others(here: PostgresStore, elsewhere: PostgresStore) -> None:
    heard = Heard()
    here.listen(heard)

    await elsewhere.create_channel(a_channel())

    await heard.wait_until_directory_changes()


async def test_more_names_than_fit_into_one_notification_all_arrive(
    here: PostgresStore, elsewhere: PostgresStore
) -> None:
    heard = Heard()
    here.listen(heard)
    names = [f"{number:03}".ljust(128, "x") for number in range(150)]

    await elsewhere.record([a_message("SM1", destinations=tuple(names))])

    await heard.wait_until_ready(*names)


async def test_a_given_up_delivery_is_counted_by_the_replica_that_gave_it_up(
    here: PostgresStore, elsewhere: PostgresStore
) -> None:
    heard, heard_elsewhere = Heard(), Heard()
    here.listen(heard)
    elsewhere.listen(heard_elsewhere)
    await elsewhere.record([a_message("SM1")])
    for _ in range(10):
        (delivery,) = (await elsewhere.claim("default", limit=1, max_bytes=1, lease_seconds=60)).deliveries
        await elsewhere.settle("default", [Settlement(delivery.token, SettlementKind.NACK, 0)])

    assert heard_elsewhere.dead_letters == {"default": 1}
    await elsewhere.create_channel(a_channel())
    await heard.wait_until_directory_changes()
    assert heard.dead_letters == {}


async def test_after_its_connection_was_lost_a_replica_looks_and_hears_again(
    here: PostgresStore, elsewhere: PostgresStore, dsn: str
) -> None:
    heard, heard_elsewhere = Heard(), Heard()
    here.listen(heard)
    elsewhere.listen(heard_elsewhere)
    connection = await asyncpg.connect(dsn)
    await connection.execute(END_LISTENERS)
    await connection.close()

    # That there might be a change is all that they can know.
    await heard.wait_until_directory_changes()
    await heard_elsewhere.wait_until_directory_changes()
    await elsewhere.record([a_message("SM1", destinations=("bot",))])

    await heard.wait_until_ready("bot")
