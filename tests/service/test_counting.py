"""However many ask what waits, and whether or not they stay: it is counted by one at a time."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import StoreUnavailable
from service.store import counting
from service.store.counting import Count, Counted, Counting

ASKING = 5


class Counts:
    """Counts that end when they may; the moment of each is its number."""

    def __init__(self, conversations: int = 0) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self._waiting = {"bot": Counted(conversations)}

    async def count(self) -> Count:
        self.begun += 1
        number = self.begun
        await self.may_end.wait()
        return Count(number, self._waiting)


async def ask_and_leave(counting_: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for what waits, several at once; none of them stays until it is counted."""
    with monkeypatch.context() as patch:
        patch.setattr(counting, "PATIENCE_SECONDS", 0.0)
        answers = await asyncio.gather(*(counting_.latest() for _ in range(ASKING)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * ASKING


async def ask_and_stay(counting_: Counting, counts: Counts) -> list[int]:
    """Return which counts several get that ask at once, when all may end."""
    async with asyncio.timeout(60):
        answers = asyncio.gather(*(counting_.latest() for _ in range(ASKING)))
        await asyncio.sleep(0)  # all have asked
        counts.may_end.set()
        return [answer.at for answer in await answers]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PATIENCE_SECONDS", 100.0)


async def test_counts_that_nobody_waits_for_any_more_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    asked = Counting(counts.count)
    await ask_and_leave(asked, monkeypatch)
    await ask_and_leave(asked, monkeypatch)
    assert counts.begun == 1
    await asked.close()


async def test_all_who_come_while_one_counts_get_the_next_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    asked = Counting(counts.count)
    await ask_and_leave(asked, monkeypatch)

    assert await ask_and_stay(asked, counts) == [2] * ASKING
    assert (await asked.latest()).at == 3


async def test_where_much_is_found_all_who_came_meanwhile_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(conversations=counting.MOST_FOR_EVERYBODY + 1)
    asked = Counting(counts.count)
    await ask_and_leave(asked, monkeypatch)

    assert await ask_and_stay(asked, counts) == [1] * ASKING
    assert counts.begun == 1


async def test_a_count_that_fails_is_made_anew_for_who_came_meanwhile() -> None:
    may_fail = asyncio.Event()
    outcomes: list[StoreUnavailable | Count] = [StoreUnavailable("the store is lost"), Count(2, {})]

    async def count() -> Count:
        await may_fail.wait()
        outcome = outcomes.pop(0)
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        return outcome

    asked = Counting(count)
    first = asyncio.create_task(asked.latest())
    await asyncio.sleep(0)  # it has asked
    await asyncio.sleep(0)  # and is counted for
    second = asyncio.create_task(asked.latest())
    await asyncio.sleep(0)
    may_fail.set()

    with pytest.raises(StoreUnavailable, match="lost"):
        await first
    assert (await second).at == 2


async def test_who_asks_when_it_is_closed_meanwhile_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    asked = Counting(counts.count)
    await ask_and_leave(asked, monkeypatch)
    asking = asyncio.create_task(asked.latest())
    await asyncio.sleep(0)
    await asked.close()

    with pytest.raises(StoreUnavailable):
        await asking
    assert counts.begun == 1
