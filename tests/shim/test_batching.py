"""Batches: when they leave, in which order, bounds and failures."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shim.batch_limits import BatchLimits
from shim.batching import Batcher, Failure
from shim.errors import OverloadError, ServiceFaultError, ServiceUnavailableError
from shim.metrics import BatchingMetrics


class Service:
    """Takes batches and gives each byte back as its result, when it is let."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.outcomes: list[asyncio.Future[Sequence[int]]] = []

    async def send(self, batch: bytes) -> Sequence[int]:
        self.batches.append(batch)
        self.outcomes.append(asyncio.get_running_loop().create_future())
        return await self.outcomes[-1]

    def answer(self, number: int) -> None:
        self.outcomes[number].set_result(list(self.batches[number]))


class Bench:
    def __init__(self, *, gather_seconds: float = 0, **limits: Any) -> None:
        self.service = Service()
        self.registry = CollectorRegistry()
        self.settled: list[tuple[bytes, int | Failure]] = []
        self.batcher: Batcher[int] = Batcher(
            self.service.send,
            limits=BatchLimits(gather_seconds=gather_seconds, **limits),
            metrics=BatchingMetrics(self.registry),
        )

    def put(self, items: bytes) -> None:
        for octet in items:
            item = bytes([octet])
            self.batcher.put(item, lambda result, item=item: self.settled.append((item, result)))  # type: ignore[misc]


async def turn() -> None:
    """Let everything happen that is due."""
    for _ in range(10):
        await asyncio.sleep(0)


class Clock:
    """The running loop's time, which stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def reach(self, seconds: float) -> None:
        """Let it be so late, and everything happen that is due then."""
        self._now = seconds
        await turn()


async def test_what_is_there_together_leaves_together_in_order() -> None:
    bench = Bench()
    bench.put(b"abc")
    await turn()
    assert bench.service.batches == [b"abc"]


async def test_what_arrives_while_a_batch_is_out_gathers_until_its_time_also_when_that_returns_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    bench = Bench(gather_seconds=5)
    bench.put(b"a")
    await turn()
    await clock.reach(1.0)
    bench.put(b"b")
    bench.service.answer(0)
    await turn()
    bench.put(b"c")
    await clock.reach(4.9)
    assert bench.service.batches == [b"a"]

    await clock.reach(5.0)
    assert bench.service.batches == [b"a", b"bc"]


@pytest.mark.parametrize(("most", "answered_at"), [(1, 0.3), (2, 0.3), (1, 0.7), (2, 0.7)])
async def test_what_found_as_many_out_as_may_leaves_when_one_returned_and_its_time_has_come(
    monkeypatch: pytest.MonkeyPatch, most: int, answered_at: float
) -> None:
    clock = Clock(monkeypatch)
    bench = Bench(max_in_flight=most, gather_seconds=0.5, max_bytes=3)
    for _ in range(most):
        bench.put(b"abc")  # a whole one
        await turn()
    bench.put(b"d")
    await clock.reach(answered_at)
    bench.service.answer(0)
    await turn()
    assert (len(bench.service.batches) > most) is (answered_at > 0.5)

    await clock.reach(0.8)
    assert bench.service.batches[most:] == [b"d"]


async def test_a_whole_batch_gathers_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    bench = Bench(max_in_flight=3, max_messages=2, gather_seconds=5)
    for items in (b"a", b"b", b"c"):
        bench.put(items)
        await turn()
    assert bench.service.batches == [b"a", b"bc"]


async def test_what_arrives_when_no_batch_is_out_leaves_at_once() -> None:
    bench = Bench(gather_seconds=1000)
    for number, item in enumerate((b"a", b"b")):
        bench.put(item)
        await turn()
        assert bench.service.batches[number:] == [item]
        bench.service.answer(number)
        await turn()


async def test_what_gathers_leaves_at_once_when_the_shim_ends() -> None:
    bench = Bench(gather_seconds=1000)
    bench.put(b"a")
    await turn()
    bench.put(b"b")
    draining = asyncio.create_task(bench.batcher.drain())
    await turn()
    bench.service.answer(0)
    bench.service.answer(1)
    await draining
    assert bench.service.batches == [b"a", b"b"]


async def test_what_arrives_while_the_batches_are_out_is_the_next_one() -> None:
    bench = Bench(max_in_flight=2)
    for items in (b"a", b"b", b"c", b"de", b"f"):
        bench.put(items)
        await turn()
    assert bench.service.batches == [b"a", b"b"]
    bench.service.answer(0)
    await turn()
    assert bench.service.batches == [b"a", b"b", b"cdef"]


async def test_each_item_gets_its_own_result() -> None:
    bench = Bench(max_in_flight=2)
    bench.put(b"ab")
    await turn()
    bench.put(b"cd")
    await turn()
    bench.service.answer(1)
    bench.service.answer(0)
    await bench.batcher.drain()
    assert sorted(bench.settled) == [(bytes([octet]), octet) for octet in b"abcd"]


async def test_a_batch_has_a_bound_in_messages() -> None:
    bench = Bench(max_in_flight=3, max_messages=2)
    bench.put(b"abcde")
    await turn()
    assert bench.service.batches == [b"ab", b"cd", b"e"]


async def test_a_batch_has_a_bound_in_bytes_but_a_large_message_travels_alone() -> None:
    bench = Bench(max_in_flight=4, max_bytes=3)
    for item in (b"aa", b"bb", b"cccc", b"d", b"ee"):
        bench.batcher.put(item, lambda _: None)
    await turn()
    assert bench.service.batches == [b"aa", b"bb", b"cccc", b"dee"]


@pytest.mark.parametrize("limits", [{"max_waiting_messages": 3}, {"max_waiting_bytes": 3}])
async def test_past_its_bounds_it_takes_nothing_more_and_recovers(limits: dict[str, int]) -> None:
    bench = Bench(max_in_flight=1, **limits)
    bench.put(b"a")
    await turn()
    bench.put(b"bcd")
    with pytest.raises(OverloadError):
        bench.put(b"e")
    bench.service.answer(0)
    await turn()
    bench.put(b"f")
    assert bench.service.batches == [b"a", b"bcd"]


@pytest.mark.parametrize("failure", [ServiceUnavailableError("away"), ServiceFaultError("odd")])
async def test_all_that_waits_behind_a_failed_batch_fails_with_it_in_the_order_of_arrival(failure: Failure) -> None:
    bench = Bench(max_in_flight=1)
    bench.put(b"ab")
    await turn()
    bench.put(b"c")
    bench.service.outcomes[0].set_exception(failure)
    await turn()
    assert bench.settled == [(b"a", failure), (b"b", failure), (b"c", failure)]
    assert bench.service.batches == [b"ab"]
    bench.put(b"d")
    await turn()
    bench.service.answer(1)
    await bench.batcher.drain()
    assert bench.settled[3:] == [(b"d", ord("d"))]


async def test_a_batch_that_was_out_already_fails_for_itself_later() -> None:
    bench = Bench(max_in_flight=2)
    bench.put(b"a")
    await turn()
    bench.put(b"b")
    await turn()
    bench.put(b"c")
    for number in (0, 1):
        bench.service.outcomes[number].set_exception(ServiceUnavailableError("away"))
        await turn()
    assert [item for item, _ in bench.settled] == [b"a", b"c", b"b"]


async def test_too_few_results_are_a_fault() -> None:
    bench = Bench()
    bench.put(b"ab")
    await turn()
    bench.service.outcomes[0].set_result([1])
    await bench.batcher.drain()
    assert [(item, type(failure)) for item, failure in bench.settled] == [
        (b"a", ServiceFaultError),
        (b"b", ServiceFaultError),
    ]


async def test_what_nobody_expected_of_a_batch_is_a_fault_and_not_a_silence() -> None:
    bench = Bench(max_in_flight=1)
    bench.put(b"a")
    await turn()
    bench.put(b"b")
    bench.service.outcomes[0].set_exception(ValueError("odd"))
    await bench.batcher.drain()
    assert [(item, str(failure)) for item, failure in bench.settled] == [(b"a", "ValueError"), (b"b", "ValueError")]
    bench.put(b"c")
    await turn()
    bench.service.answer(1)
    await bench.batcher.drain()
    assert bench.settled[2:] == [(b"c", ord("c"))]


async def test_what_waited_too_long_fails_instead_of_being_sent() -> None:
    bench = Bench(max_in_flight=1, max_wait_seconds=-1)
    bench.put(b"ab")
    await bench.batcher.drain()
    assert bench.service.batches == []
    assert [(item, type(failure)) for item, failure in bench.settled] == [
        (b"a", ServiceUnavailableError),
        (b"b", ServiceUnavailableError),
    ]


async def test_settling_may_put_the_next_item() -> None:
    bench = Bench(max_in_flight=1)
    bench.batcher.put(b"a", lambda _: bench.put(b"b"))
    await turn()
    bench.service.answer(0)
    await turn()
    assert bench.service.batches == [b"a", b"b"]


async def test_what_it_does_is_counted() -> None:
    bench = Bench(max_in_flight=1)
    bench.put(b"a")
    await turn()
    bench.put(b"bcd")
    assert bench.registry.get_sample_value("mo_batches_in_flight") == 1
    assert bench.registry.get_sample_value("mo_batch_waiting_messages") == 3
    assert bench.registry.get_sample_value("mo_batch_waiting_bytes") == 3
    bench.service.answer(0)
    await turn()
    bench.service.answer(1)
    await bench.batcher.drain()
    assert bench.registry.get_sample_value("mo_batches_total", {"result": "stored"}) == 2
    assert bench.registry.get_sample_value("mo_batch_messages_sum") == 4
    assert bench.registry.get_sample_value("mo_batch_waiting_bytes") == 0
