"""Fixtures: a shim in the test's own loop, in front of a service that does as it is told."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shim.alone import open_shim
from shim.flags import parse_target
from shim.settings import Address, Settings
from tests.shim.fake_service import PASSWORD, FakeService, make_replica
from tests.shim.running import Events, OpenShim, RunningShim


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """Give the service more time than the shim does: a machine that stalls is no service that is away.

    Who tests what comes of these times sets them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shim.link.BATCH_SECONDS", 30.0)
        patch.setattr("shim.link.QUESTION_SECONDS", 30.0)
        patch.setattr("shim.link.REPORT_SECONDS", 30.0)
        # Whoever hands over tries again and again, at once.
        patch.setattr("shim.journal.drainer._LONGEST_PAUSE_SECONDS", 0.02)
        yield


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
