"""The processes themselves crash at any point of a write: what they answered is delivered once, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aicc.mo.v1 import message_archive_pb2 as archive_pb

from tests.faults.crash_vfs import VARIABLE, Crash, CrashPoint
from tests.processes import Process, running_service, running_shim
from tests.service.stubs import Client, connected
from tests.shim.caller import FORM, Caller, basic

with_points = pytest.mark.parametrize(
    "point", [CrashPoint.BEFORE_WRITE, CrashPoint.BEFORE_SYNC, CrashPoint.AFTER_SYNC], ids=lambda point: point.value
)
PASSWORD = "a good password"


@pytest.fixture
def crashing(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a process that dies where `arm` says."""
    site = Path(__file__).parent / "site"
    return {"PYTHONPATH": str(site), VARIABLE: str(tmp_path / "crash")}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def post_until_accepted(shim: Process, first: int, count: int) -> list[str]:
    """Post messages of one conversation one after the other, each until its 2xx; return them."""
    sids = [f"SM{number:04d}" for number in range(first, first + count)]
    for sid in sids:
        while True:
            if await is_accepted(shim, sid):
                break
            await asyncio.sleep(0.05)
    return sids


async def is_accepted(shim: Process, sid: str) -> bool:
    try:
        async with asyncio.timeout(15), Caller(shim.listen) as caller:
            response = await caller.post(FORM | {"MessageSid": sid}, authorization=basic("user", PASSWORD))
    except (OSError, EOFError, TimeoutError):
        return False
    return response.status == 204


async def wait_for_archive(client: Client, count: int) -> list[str]:
    """Return the MessageSids in the order in which they are stored, once there are so many."""
    while True:
        page = await client.archive.ListMessages(archive_pb.ListMessagesRequest(page_size=1_000), wait_for_ready=True)
        if len(page.messages) >= count:
            return [each.message.message_sid for each in reversed(page.messages)]
        await asyncio.sleep(0.05)


@with_points
async def test_a_service_that_crashes_while_it_stores_loses_nothing_that_the_shim_answered(
    tmp_path: Path,
    crashing: Mapping[str, str],
    stack: AsyncExitStack,
    point: CrashPoint,
) -> None:
    service = await stack.enter_async_context(running_service(tmp_path, env=crashing))
    shim = await stack.enter_async_context(running_shim(tmp_path, service=service.listen))
    async with connected(service.listen) as client:
        await client.create_channel(webhook_user="user")
    posted = await post_until_accepted(shim, 0, 5)

    Crash("mo.db-wal", point, 3, is_power_loss=True).arm(tmp_path / "crash")
    posted += await post_until_accepted(shim, 5, 20)
    await asyncio.to_thread(service.kill)  # it is dead already; this is for its log
    assert not (tmp_path / "crash").exists()
    successor = await stack.enter_async_context(
        running_service(tmp_path, listen=service.listen, admin_listen=service.admin_listen)
    )

    async with connected(successor.listen) as client, asyncio.timeout(30):
        assert await wait_for_archive(client, len(posted)) == posted


@with_points
async def test_a_worker_that_crashes_while_it_journals_loses_nothing_that_it_answered(
    tmp_path: Path,
    crashing: Mapping[str, str],
    stack: AsyncExitStack,
    point: CrashPoint,
) -> None:
    service = await stack.enter_async_context(running_service(tmp_path))
    shim = await stack.enter_async_context(running_shim(tmp_path, service=service.listen, workers=1, env=crashing))
    async with connected(service.listen) as client:
        await client.create_channel(webhook_user="user")
    posted = await post_until_accepted(shim, 0, 5)
    await asyncio.to_thread(service.kill)

    # No power loss here: that would end the drainer too, which has the file open.
    Crash("journal/0.db-wal", point, 9).arm(tmp_path / "crash")
    posted += await post_until_accepted(shim, 5, 20)
    assert not (tmp_path / "crash").exists()
    successor = await stack.enter_async_context(
        running_service(tmp_path, listen=service.listen, admin_listen=service.admin_listen)
    )

    async with connected(successor.listen) as client, asyncio.timeout(30):
        assert await wait_for_archive(client, len(posted)) == posted
