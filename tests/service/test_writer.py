"""The writer: what one operation does wrong is no other's loss, and what can't be committed is nobody's success."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import apsw
import pytest

from service.errors import NotFound, StoreUnavailable
from service.store.sqlite import microseconds_now, writer
from service.store.sqlite.writer import Transaction, Writer


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    connection = apsw.Connection(str(tmp_path / "test.db"))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY)")
    connection.close()
    return tmp_path / "test.db"


@pytest.fixture
async def writing(path: Path) -> AsyncIterator[Writer]:
    opened = Writer(apsw.Connection(str(path)), microseconds_now, 0)
    yield opened
    await opened.close()


def stored(path: Path) -> list[int]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = [row[0] for row in connection.execute("SELECT id FROM entry ORDER BY id")]
    connection.close()
    return found


async def add(writing: Writer, number: int) -> None:
    await writing.run(lambda transaction: transaction.connection.execute("INSERT INTO entry VALUES (?)", (number,)))


async def test_what_returned_is_stored(writing: Writer, path: Path) -> None:
    await asyncio.gather(*(add(writing, number) for number in range(100)))

    assert stored(path) == list(range(100))


async def test_an_operation_that_breaks_takes_no_other_with_it(writing: Writer, path: Path) -> None:
    results = await asyncio.gather(*(add(writing, number) for number in (1, 2, 1, 3)), return_exceptions=True)

    assert [type(result) for result in results] == [type(None), type(None), StoreUnavailable, type(None)]
    assert stored(path) == [1, 2, 3]


async def test_an_error_of_ours_reaches_its_caller_alone(writing: Writer, path: Path) -> None:
    def refuse(_: Transaction) -> None:
        raise NotFound("not there")

    results = await asyncio.gather(add(writing, 1), writing.run(refuse), add(writing, 2), return_exceptions=True)

    assert [type(result) for result in results] == [type(None), NotFound, type(None)]
    assert stored(path) == [1, 2]


async def test_a_full_disk_is_unavailable_and_stores_nothing_until_there_is_room(writing: Writer, path: Path) -> None:
    def fill(transaction: Transaction) -> None:
        transaction.connection.execute("CREATE TABLE big (x)")
        transaction.connection.execute("INSERT INTO big VALUES (randomblob(10000000))")

    await writing.run(lambda transaction: None)
    await writing.run(lambda transaction: transaction.connection.pragma("max_page_count", 50))

    with pytest.raises(StoreUnavailable):
        await writing.run(fill)
    await add(writing, 1)

    assert stored(path) == [1]


async def test_what_takes_too_long_is_unavailable(writing: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DEADLINE_SECONDS", 0.05)
    release = threading.Event()
    blocked = asyncio.create_task(writing.run(lambda _: release.wait(100)))

    with pytest.raises(StoreUnavailable, match="took longer"):
        await blocked
    release.set()


async def test_what_nobody_waits_for_any_more_is_not_begun(writing: Writer, path: Path) -> None:
    release = threading.Event()
    blocking = asyncio.create_task(writing.run(lambda _: release.wait(100)))
    given_up = asyncio.create_task(add(writing, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    release.set()
    await blocking
    await add(writing, 2)

    assert stored(path) == [2]


async def test_of_what_is_done_in_one_transaction_nothing_is_begun_that_nobody_waits_for_by_then(
    writing: Writer, path: Path
) -> None:
    gathered, begun, release = threading.Event(), threading.Event(), threading.Event()

    def block(_: Transaction) -> None:
        begun.set()
        release.wait(100)

    gathering = asyncio.create_task(writing.run(lambda _: gathered.wait(100)))
    await asyncio.sleep(0)
    blocking = asyncio.create_task(writing.run(block))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(add(writing, 1))
    await asyncio.sleep(0)
    gathered.set()
    await asyncio.to_thread(begun.wait, 30)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    release.set()
    await asyncio.gather(gathering, blocking)

    assert stored(path) == []


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    opened = Writer(apsw.Connection(str(path)), microseconds_now, 0)
    adding = [asyncio.create_task(add(opened, number)) for number in range(1000)]
    await asyncio.sleep(0)

    await opened.close()
    await asyncio.gather(*adding)

    assert stored(path) == list(range(1000))
    with pytest.raises(StoreUnavailable, match="closed"):
        await add(opened, 1001)


async def test_too_much_waiting_is_refused(writing: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 3)
    release = threading.Event()
    begun = threading.Event()

    def block(_: Transaction) -> None:
        begun.set()
        release.wait(100)

    blocking = asyncio.create_task(writing.run(block))
    await asyncio.to_thread(begun.wait, 30)
    waiting = [asyncio.create_task(add(writing, number)) for number in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(StoreUnavailable, match="too much waiting"):
        await add(writing, 9)

    release.set()
    await asyncio.gather(blocking, *waiting)


async def test_time_never_goes_back(path: Path) -> None:
    times = iter([50, 40, 60])
    opened = Writer(apsw.Connection(str(path)), lambda: next(times), 45)

    seen = [await opened.run(lambda transaction: transaction.now) for _ in range(3)]
    await opened.close()

    assert seen == [50, 50, 60]


def add_all(transaction: Transaction, numbers: Sequence[int]) -> Sequence[tuple[int, Sequence[int]]]:
    for number in numbers:
        transaction.connection.execute("INSERT INTO entry VALUES (?)", (number,))
    return [(number, list(numbers)) for number in numbers]


async def test_what_waits_for_the_same_is_done_together_and_each_caller_gets_its_own(
    writing: Writer, path: Path
) -> None:
    release = threading.Event()
    blocking = asyncio.create_task(writing.run(lambda _: release.wait(100)))
    await asyncio.sleep(0)
    adding = [asyncio.create_task(writing.run_together(add_all, number)) for number in (1, 2)]
    await asyncio.sleep(0)
    between = asyncio.create_task(add(writing, 3))
    await asyncio.sleep(0)
    adding.append(asyncio.create_task(writing.run_together(add_all, 4)))
    await asyncio.sleep(0)
    release.set()

    assert await asyncio.gather(*adding) == [(1, [1, 2]), (2, [1, 2]), (4, [4])]
    await asyncio.gather(blocking, between)
    assert stored(path) == [1, 2, 3, 4]


async def test_an_item_that_breaks_takes_no_other_with_it(writing: Writer, path: Path) -> None:
    results = await asyncio.gather(
        *(writing.run_together(add_all, number) for number in (1, 2, 1, 3)), return_exceptions=True
    )

    assert [type(result) for result in results] == [tuple, tuple, StoreUnavailable, tuple]
    assert stored(path) == [1, 2, 3]


async def test_what_a_failed_transaction_looked_up_is_forgotten(writing: Writer) -> None:
    def learn(transaction: Transaction) -> None:
        transaction.remembered.next_sequence = 7

    def learn_and_break(transaction: Transaction) -> None:
        transaction.remembered.next_sequence = 8
        transaction.connection.execute("INSERT INTO no_such_table VALUES (1)")

    await writing.run(learn)
    before = await writing.run(lambda transaction: transaction.remembered.next_sequence)
    with pytest.raises(StoreUnavailable):
        await writing.run(learn_and_break)
    after = await writing.run(lambda transaction: transaction.remembered.next_sequence)

    assert (before, after) == (7, None)
