"""The workers of a host, kept by `Workers` in the test's own loop: they die, freeze and fail to start."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shim.connection_limits import ConnectionLimits
from shim.errors import StartError
from shim.flags import parse_target
from shim.settings import Address, Settings, from_json
from shim.sums import Sums, take_snapshot
from shim.worker import allow_files
from shim.workers import Workers
from tests.shim.fake_service import FakeService
from tests.shim.running import Events


@pytest.fixture
def settings(service: FakeService, tmp_path: Path) -> Settings:
    anywhere = Address("127.0.0.1", 0)
    return Settings(anywhere, anywhere, parse_target(service.listen), tmp_path / "shim")


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Workers]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        workers = Workers(settings, [listening], CollectorRegistry())
        async with workers.serving():
            yield workers


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no file meanwhile, and so start no child; what is open stays open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def reasons(workers: Workers) -> list[str]:
    return [reason.reason for reason in workers.find_reasons()]


async def wait_until(workers: Workers, *expected: str) -> None:
    async with asyncio.timeout(50):
        await workers.refresh()  # one that never reported has no reasons yet
        while reasons(workers) != list(expected):
            await workers.refresh()


async def test_a_frozen_worker_is_replaced_and_then_killed(
    settings: Settings, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.workers._ROUND_SECONDS", 0.1)
    async with serving(settings) as workers:
        await wait_until(workers)
        os.kill(events.facts("worker_started")["pid"], signal.SIGSTOP)
        await events.wait_for("worker_frozen")
        await events.wait_for("worker_started", 2)
        await wait_until(workers)
        await events.wait_for("worker_ended")
        assert events.facts("worker_ended")["exit_code"] == -signal.SIGKILL
        assert events.facts("worker_ended")["pid"] == events.facts("worker_frozen")["pid"]


async def test_a_frozen_worker_that_thaws_is_drained(
    settings: Settings, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.workers._ROUND_SECONDS", 0.1)
    monkeypatch.setattr("shim.workers._LEAVE_ROUNDS", 1_000)
    async with serving(settings) as workers:
        frozen = events.facts("worker_started")["pid"]
        os.kill(frozen, signal.SIGSTOP)
        await events.wait_for("worker_started", 2)
        os.kill(frozen, signal.SIGCONT)
        await events.wait_for("worker_ended")
        assert events.facts("worker_ended")["exit_code"] == 0
        assert workers.count == 1


async def test_a_worker_that_is_silent_is_told(settings: Settings, events: Events) -> None:
    async with serving(settings) as workers:
        await wait_until(workers)
        pid = events.facts("worker_started")["pid"]
        os.kill(pid, signal.SIGSTOP)
        await wait_until(workers, "worker_silent")
        os.kill(pid, signal.SIGCONT)
        await wait_until(workers)


async def test_a_host_is_as_ready_as_its_best_worker(settings: Settings, service: FakeService, events: Events) -> None:
    async with serving(replace(settings, workers=2)) as workers:
        await events.wait_for("worker_started", 2)
        await wait_until(workers)
        os.kill(events.facts("worker_started")["pid"], signal.SIGKILL)
        await events.wait_for("worker_died")
        assert reasons(workers) == ["workers_missing"]
        await events.wait_for("worker_started", 3)
        await wait_until(workers)
        await service.stop()
        await wait_until(workers, "directory_not_followed")


async def test_a_roll_that_fails_leaves_the_old_workers(settings: Settings, events: Events) -> None:
    async with serving(settings) as workers:
        await wait_until(workers)
        # The next free place is taken by what can't be opened.
        (settings.state_dir / "replicas" / "1" / "replica.db").mkdir(parents=True)
        workers.roll()
        await events.wait_for("roll_failed")
        await wait_until(workers)


async def test_a_worker_that_could_not_be_started_is_started_later(settings: Settings, events: Events) -> None:
    async with serving(settings) as workers:
        await wait_until(workers)
        with no_more_files():
            os.kill(events.facts("worker_started")["pid"], signal.SIGKILL)
            await events.wait_for("worker_not_started", 2)
            assert reasons(workers) == ["no_worker"]
        assert "Too many open files" in events.facts("worker_not_started")["reason"]
        await events.wait_for("worker_started", 2)
        await wait_until(workers)


async def test_a_roll_whose_new_worker_can_not_be_started_leaves_the_old_ones(
    settings: Settings, events: Events
) -> None:
    async with serving(settings) as workers:
        await wait_until(workers)
        with no_more_files():
            workers.roll()
            await events.wait_for("roll_failed")
        assert events.count("worker_not_started") == 1
        await wait_until(workers)
        workers.roll()
        await events.wait_for("rolled")
        assert (workers.count, events.count("worker_started")) == (1, 2)


async def test_a_worker_that_cannot_start_says_why(settings: Settings) -> None:
    settings.state_dir.touch()
    with pytest.raises(StartError, match="--state-dir"):
        async with serving(settings):
            pytest.fail("it serves")


async def test_a_worker_that_dies_while_it_is_rolled_is_replaced_once(settings: Settings, events: Events) -> None:
    async with serving(settings) as workers:
        await wait_until(workers)
        workers.roll()
        os.kill(events.facts("worker_started")["pid"], signal.SIGKILL)
        await events.wait_for("rolled")
        await wait_until(workers)
        workers.roll()
        await events.wait_for("rolled", 2)
        assert (workers.count, events.count("worker_started")) == (1, 3)


def test_a_worker_has_no_more_connections_than_files(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 1_024))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: raised.append(limits))
    raised: list[tuple[int, int]] = []
    assert allow_files(ConnectionLimits(max_connections=500)).max_connections == 500
    assert allow_files(ConnectionLimits(max_connections=5_000)).max_connections == 768
    assert raised == [(756, 1_024), (1_024, 1_024)]
    assert events.count("connections_limited") == 1


def test_settings_reach_a_worker_unchanged(settings: Settings) -> None:
    changed = replace(settings, workers=7, reply="twiml", batches=replace(settings.batches, max_messages=3))
    assert from_json(changed.to_json()) == changed


def make_registry(count: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("mo_things", "Things.", ["kind"], registry=registry).labels("a").inc(count)
    Gauge("mo_waiting", "Waiting.", registry=registry).set(count)
    Gauge("mo_replica_revision", "Revision.", registry=registry).set(count)
    Histogram("mo_seconds", "Seconds.", buckets=(1, 5), registry=registry).observe(count)
    return registry


def read(sums: Sums, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(sums)
    return registry.get_sample_value(name, labels)


def test_samples_of_processes_are_summed_and_the_dead_still_count() -> None:
    alive = [take_snapshot(make_registry(count)) for count in (1, 3)]
    sums = Sums(lambda: alive)
    assert read(sums, "mo_things_total", kind="a") == 4
    assert read(sums, "mo_waiting") == 4
    assert read(sums, "mo_replica_revision") == 1
    assert read(sums, "mo_seconds_bucket", le="1.0") == 1
    sums.bury(alive.pop())
    assert read(sums, "mo_things_total", kind="a") == 4
    assert (read(sums, "mo_seconds_count"), read(sums, "mo_seconds_sum")) == (2, 4)
    assert read(sums, "mo_waiting") == 1
    sums.bury(alive.pop())
    assert read(sums, "mo_things_total", kind="a") == 4
