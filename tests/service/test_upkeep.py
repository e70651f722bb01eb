"""What the service does by itself: prune, and keep replays going."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.replays import ReplayRunner
from service.retention import Pruner
from service.signals import Signal


class Answers:
    """Stands for a store that is asked again and again: an exception is raised, the last answer repeated."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked = 0
        self._changed = asyncio.Condition()

    async def answer(self, **_values: int) -> Any:
        self.asked += 1
        async with self._changed:
            self._changed.notify_all()
        value = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(value, Exception):
            raise value
        return value

    prune = advance_replays = answer

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with self._changed, asyncio.timeout(30):
            await self._changed.wait_for(is_so)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_pruning_goes_on_while_there_is_more_and_then_waits(caplog: pytest.LogCaptureFixture) -> None:
    store = Answers(200, 200, 17, 0)
    task = asyncio.create_task(Pruner(store, pause_seconds=0, interval_seconds=3600).run())  # type: ignore[arg-type]

    await store.wait_until(lambda: store.asked == 4)
    await asyncio.wait({task}, timeout=0)

    assert (store.asked, task.done(), caplog.messages) == (4, False, [])
    await stop(task)


async def test_pruning_survives_a_store_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    store = Answers(StoreUnavailable("away"), 0)
    task = asyncio.create_task(Pruner(store, pause_seconds=0, interval_seconds=0).run())  # type: ignore[arg-type]

    await store.wait_until(lambda: store.asked > 2)

    assert caplog.messages == ["prune_failed"]
    await stop(task)


async def test_a_replay_that_starts_is_advanced_at_once_and_an_idle_runner_sleeps() -> None:
    store, started = Answers(None), Signal()
    task = asyncio.create_task(ReplayRunner(store, started, lambda: 0, is_shared=False).run())  # type: ignore[arg-type]
    await store.wait_until(lambda: store.asked == 1)

    started.fire()
    await store.wait_until(lambda: store.asked == 2)

    await asyncio.wait({task}, timeout=0)
    assert store.asked == 2
    started.close()
    await task


async def test_a_replay_is_advanced_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def wait_past(_signal: Signal, _seen: int, timeout_seconds: float) -> bool:
        waits.append(timeout_seconds)
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(Signal, "wait_past", wait_past)
    store = Answers(1_250_000, 900_000, None)
    runner = ReplayRunner(store, Signal(), lambda: 1_000_000, is_shared=False)  # type: ignore[arg-type]
    task = asyncio.create_task(runner.run())
    await store.wait_until(lambda: store.asked > 3)

    assert waits[:3] == [0.25, 0.0, 3600.0]
    await stop(task)


async def test_a_runner_survives_a_store_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.replays.RETRY_SECONDS", 0)
    store, started = Answers(StoreUnavailable("away"), None), Signal()
    task = asyncio.create_task(ReplayRunner(store, started, lambda: 0, is_shared=True).run())  # type: ignore[arg-type]

    await store.wait_until(lambda: store.asked == 2)

    assert caplog.messages == ["replays_waiting"]
    started.close()
    await task
