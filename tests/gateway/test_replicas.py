"""Two replicas on one PostgreSQL, a shim and consumers before both: one goes, and nobody is the worse for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.gateway import FORM, Gateway
from tests.gateway.traffic import Asker, Progress, Reader, Traffic
from tests.postgres_server import Databases, open_databases
from tests.processes import Process, running_service, running_shim

SENDERS = [f"whatsapp:+4477009001{number}" for number in range(6)]
MANY = 30
LONG_LEASE_SECONDS, SHORT_LEASE_SECONDS = 600, 2

pytestmark = pytest.mark.timeout(180)  # waits are for events, however long those take


@pytest.fixture(scope="module")
def postgres() -> Iterator[Databases]:
    with open_databases() as databases:
        yield databases


@asynccontextmanager
async def running_replicas(folder: Path, postgres: Databases) -> AsyncIterator[tuple[Gateway, list[Process], str]]:
    """Yield a shim before two services, these, and the target that names both."""
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(postgres.database())
        services = [await stack.enter_async_context(running_service(folder, store=dsn)) for _ in range(2)]
        both = ",".join(service.listen for service in services)
        shim = await stack.enter_async_context(running_shim(folder, service=both))
        gateway = Gateway(services[1], shim)
        await gateway.create_channel("C1")
        yield gateway, services, f"ipv4:{both}"


@asynccontextmanager
async def at_work(*works: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.TaskGroup]:
    """Keep these going for as long as the context lasts; when one fails, so does the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield group
        for task in tasks:
            task.cancel()


async def test_a_replica_that_drains_fails_no_request_and_lets_go_of_what_its_consumers_have(
    tmp_path: Path, postgres: Databases
) -> None:
    progress = Progress()
    async with running_replicas(tmp_path, postgres) as (gateway, services, both):
        traffic = Traffic(gateway, progress)
        before = Reader(f"ipv4:{services[0].listen}", progress, lease_seconds=LONG_LEASE_SECONDS)
        after = Reader(both, progress, lease_seconds=LONG_LEASE_SECONDS)
        asker = Asker(both, progress)
        async with at_work(before.read(), asker.ask()) as group:
            posting = [group.create_task(traffic.post(sender)) for sender in SENDERS]
            await progress.until(lambda: before.confirmed >= MANY)
            before.is_holding = True
            await progress.until(lambda: len(before.out) == len(SENDERS))  # one of each conversation
            following = group.create_task(after.read())
            posted, asked = traffic.total, asker.answers

            services[0].terminate()
            assert await asyncio.to_thread(services[0].wait, 60) == 0

            await progress.until(lambda: traffic.total >= posted + MANY and asker.answers >= asked + MANY)
            traffic.stop()
            await asyncio.gather(*posting)
            await progress.until(lambda: before.confirmed + after.confirmed >= traffic.total)
            following.cancel()

    # No lease ran out, no stream broke: what was held came again at once, and counted for nothing.
    assert before.attempts | after.attempts == {1}
    for sender in SENDERS:
        assert before.settled[sender] + after.settled[sender] == traffic.sent[sender]


async def test_a_replica_that_is_killed_fails_no_request_and_loses_nothing(tmp_path: Path, postgres: Databases) -> None:
    progress = Progress()
    async with running_replicas(tmp_path, postgres) as (gateway, services, both):
        traffic = Traffic(gateway, progress)
        readers = [Reader(both, progress, lease_seconds=SHORT_LEASE_SECONDS) for _ in range(2)]
        asker = Asker(both, progress)
        async with at_work(*(reader.read() for reader in readers), asker.ask()) as group:
            posting = [group.create_task(traffic.post(sender)) for sender in SENDERS]
            await progress.until(lambda: sum(reader.confirmed for reader in readers) >= MANY)
            posted, asked = traffic.total, asker.answers

            await asyncio.to_thread(services[0].kill)

            await progress.until(lambda: traffic.total >= posted + MANY and asker.answers >= asked + MANY)
            traffic.stop()
            await asyncio.gather(*posting)
            asked = asker.answers
            await progress.until(lambda: asker.answers >= asked + 2 and asker.backlog == 0)

    for sender in SENDERS:
        seen = [set(reader.first[sender]) for reader in readers]
        assert set.union(*seen) == set(traffic.sent[sender])
        for reader in readers:  # each of the two misses some; what it saw came in order
            assert reader.first[sender] == [sid for sid in traffic.sent[sender] if sid in reader.first[sender]]


async def test_a_change_that_one_replica_made_reaches_the_shims_of_the_other(
    tmp_path: Path, postgres: Databases
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    async with (
        running_replicas(tmp_path, postgres) as (gateway, services, _),
        running_shim(folder, service=services[1].listen) as shim,
    ):
        here, there = replace(gateway, service=services[0]), replace(gateway, shim=shim)
        form = FORM | {"MessageSid": "SM1"}
        for flag, code in (("--enable", 204), ("--disable", 403), ("--enable", 204)):
            await here.mo("channel", "update", "C1", flag)
            for each in (here, there):
                await each.post_until("C1", form, code)
