"""A shim in the test's own loop, in front of a service that does as it is told."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shim.__main__ import open_shim
from shim.logs import JsonFormatter
from shim.settings import Address, Settings, parse_target
from tests.shim.caller import Response, post
from tests.shim.fake_service import PASSWORD, FakeService, make_replica


class Events(logging.Handler):
    """What the shim logs: something to wait for instead of a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._names: list[str] = []
        self._changed = asyncio.Event()
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self._names.append(record.msg)
        self._changed.set()

    def count(self, name: str) -> int:
        return self._names.count(name)

    async def wait_for(self, name: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.count(name) < times:
                self._changed.clear()
                await self._changed.wait()


@dataclass(frozen=True)
class RunningShim:
    """A running shim, its service and its log."""

    listen: str
    admin_listen: str
    service: FakeService
    events: Events

    async def post(self, *args: Any, **kwargs: Any) -> Response:
        return await post(self.listen, *args, **kwargs)

    async def get(self, path: str) -> Response:
        return await post(self.admin_listen, b"", method="GET", path=path, authorization=None)

    async def readiness(self) -> tuple[int, Any]:
        response = await self.get("/readyz")
        return response.status, json.loads(response.body)

    async def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families((await self.get("/metrics")).body.decode())
        samples = [s for family in families for s in family.samples if s.name == name and s.labels == labels]
        assert len(samples) == 1, f"{name} {labels}"
        return samples[0].value

    async def answered(self, answer: str) -> float:
        return await self.metric("mo_webhook_answers_total", answer=answer)

    async def computations(self) -> float:
        return await self.metric("mo_password_computations_total")


OpenShim = Callable[..., AbstractAsyncContextManager[RunningShim]]


@pytest.fixture
def events() -> Iterator[Events]:
    """What is logged; nothing of it may ever hold a secret."""
    events = Events()
    logger = logging.getLogger("shim")
    logger.addHandler(events)
    logger.setLevel(logging.INFO)
    yield events
    logger.removeHandler(events)
    log = "\n".join(events.lines)
    assert PASSWORD not in log
    assert "447700900123" not in log
    assert "argon2id" not in log


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    """A service that knows the channel C1."""
    service = FakeService()
    service.add(make_replica("C1"))
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def open_shim_with(service: FakeService, events: Events, tmp_path: Path) -> OpenShim:
    """Open a shim with these settings, and wait until it has the directory unless told otherwise."""

    @asynccontextmanager
    async def open_with(*, is_ready: bool = True, **changes: Any) -> AsyncIterator[RunningShim]:
        anywhere = Address("127.0.0.1", 0)
        settings = Settings(
            listen=anywhere,
            admin_listen=anywhere,
            service=parse_target(service.listen),
            state_dir=tmp_path / "shim",
        )
        connected = events.count("directory_connected")
        async with open_shim(replace(settings, **changes)) as running:
            if is_ready:
                await events.wait_for("directory_connected", connected + 1)
            yield RunningShim(running.listen, running.admin_listen, service, events)

    return open_with


@pytest.fixture
async def shim(open_shim_with: OpenShim) -> AsyncIterator[RunningShim]:
    """A shim that has the directory."""
    async with open_shim_with() as running:
        yield running
