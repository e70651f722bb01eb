"""What the writer on SQLite remembers from one transaction to the next is true, whatever became of one between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.store.sqlite import SqliteStore
from service.store.sqlite.writer import Transaction
from tests.service.builders import a_message


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "mo.db")
    yield opened
    await opened.close()


def fail(transaction: Transaction) -> None:
    transaction.connection.execute("INSERT INTO no_such_table VALUES (1)")


async def test_what_a_message_made_in_a_transaction_that_failed_is_made_again(store: SqliteStore) -> None:
    release = threading.Event()
    busy = asyncio.create_task(store._writer.run(lambda _: release.wait(100)))
    await asyncio.sleep(0)
    recording = asyncio.create_task(store.record([a_message("SM1", destinations=("new",))]))
    await asyncio.sleep(0)
    failing = asyncio.create_task(store._writer.run(fail))
    await asyncio.sleep(0)
    release.set()
    await busy
    with pytest.raises(StoreUnavailable):
        await failing
    (first,) = await recording

    await store.update_destination("new", lambda settings: replace(settings, max_attempts=7))
    (second,) = await store.record([a_message("SM2", destinations=("new",))])

    assert (first.sequence, second.sequence) == (1, 2)
    settings = {each.name: each.settings.max_attempts for each in await store.list_destinations()}
    assert settings == {"new": 7}
