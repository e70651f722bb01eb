"""A shim that runs in the test's own loop: its ports, its service and its log."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shim.logs import JsonFormatter
from tests.shim.caller import Response, post
from tests.shim.fake_service import FakeService


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

    def facts(self, name: str) -> Any:
        """Return the first event of that name with its fields."""
        return next(event for event in map(json.loads, self.lines) if event["event"] == name)

    async def wait_for(self, name: str, times: int = 1) -> None:
        async with asyncio.timeout(50):
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
