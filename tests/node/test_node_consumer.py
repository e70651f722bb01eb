"""A consumer in another language, made of the descriptor set alone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import Process as Child
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb

from tests.processes import Process, running_service
from tests.service.stubs import Client, connected, mo_message

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALLED = HERE / "node_modules" / ".installed-for"
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")) and not os.environ.get("CI"),
    reason="needs node and npm (Debian, Ubuntu: apt-get install nodejs npm)",
)


class NodeConsumer:
    """`consumer.mjs` at work, and what it prints."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._facts: list[Mapping[str, Any]] = []

    async def event(self, name: str) -> Mapping[str, Any]:
        """Return the facts of its next event of this name; others are passed over."""
        assert self._child.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self._child.stdout.readline():
                facts: Mapping[str, Any] = json.loads(line)
                self._facts.append(facts)
                if facts["event"] == name:
                    return facts
        raise AssertionError(f"it ended without {name!r}: {self._facts}")

    async def delivery(self) -> tuple[str, int]:
        facts = await self.event("delivered")
        return facts["message_sid"], facts["delivery_attempt"]

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self._child.terminate()
        return await asyncio.wait_for(self._child.wait(), PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def packages() -> None:
    """Install what package-lock.json names. Only one worker of pytest does; the others wait for it."""
    with (HERE / "package-lock.json").open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = lock.read()
        if not INSTALLED.exists() or INSTALLED.read_text("utf-8") != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            installation = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
            assert installation.returncode == 0, installation.stdout + installation.stderr
            INSTALLED.write_text(wanted, "utf-8")


@pytest.fixture(scope="session")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make descriptor` writes."""
    path = tmp_path_factory.mktemp("contract") / "aicc-mo-v1.binpb"
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", "--descriptor", path], check=True)
    return path


@asynccontextmanager
async def consuming(service: Process, descriptor: Path) -> AsyncIterator[NodeConsumer]:
    child = await asyncio.create_subprocess_exec(
        *("node", HERE / "consumer.mjs", service.listen, "default", descriptor), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield NodeConsumer(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def ingest(client: Client, *sids: str, **values: Any) -> None:
    messages = [mo_message(sid, **values) for sid in sids]
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


@pytest.mark.usefixtures("packages")
async def test_it_takes_a_conversation_in_order_and_every_acknowledgement_is_confirmed(
    service_process: Process, descriptor: Path
) -> None:
    async with connected(service_process.listen) as client, consuming(service_process, descriptor) as consumer:
        await client.create_channel()
        await ingest(client, "SM1", "SM2", "SM3")

        assert [await consumer.delivery() for _ in range(3)] == [("SM1", 1), ("SM2", 1), ("SM3", 1)]
        assert (await consumer.event("settled"))["status"] == "ACK_STATUS_OK"
        assert await consumer.stop() == 0
        (destination,) = (await client.feed.ListDestinations(feed_pb.ListDestinationsRequest())).destinations
        assert (destination.backlog, destination.consumers) == (0, 0)


@pytest.mark.usefixtures("packages")
async def test_it_acknowledges_many_messages_together(service_process: Process, descriptor: Path) -> None:
    async with connected(service_process.listen) as client:
        await client.create_channel()
        for number in range(50):
            await ingest(client, f"SM{number}", sender=f"whatsapp:+{number:09d}")
        async with consuming(service_process, descriptor) as consumer:
            seen = {(await consumer.delivery())[0] for _ in range(50)}
            statuses = [(await consumer.event("settled"))["status"] for _ in range(50)]

    assert seen == {f"SM{number}" for number in range(50)}
    assert statuses == ["ACK_STATUS_OK"] * 50


@pytest.mark.usefixtures("packages")
async def test_it_comes_back_when_the_service_was_killed(tmp_path: Path, descriptor: Path) -> None:
    async with running_service(tmp_path) as service, consuming(service, descriptor) as consumer:
        async with connected(service.listen) as client:
            await client.create_channel()
            await ingest(client, "SM1")
            assert await consumer.delivery() == ("SM1", 1)
            await consumer.event("settled")
        service.kill()
        assert (await consumer.event("disconnected"))["code"] == "UNAVAILABLE"

        async with (
            running_service(tmp_path, listen=service.listen) as successor,
            connected(successor.listen) as client,
        ):
            await ingest(client, "SM2")
            assert await consumer.delivery() == ("SM2", 1)
            assert (await consumer.event("settled"))["status"] == "ACK_STATUS_OK"
