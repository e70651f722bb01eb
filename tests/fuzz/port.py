"""A shim in an event loop of its own, for bytes that are sent to its public port one connection after the other."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from shim.alone import open_shim
from shim.flags import parse_target
from shim.settings import Address, Settings
from shim.verification_limits import VerificationLimits
from tests.shim.fake_service import FakeService, make_replica
from tests.shim.running import Events, RunningShim

_ANYWHERE = Address("127.0.0.1", 0)
_TURNS = 30
"""How often the loop goes round until what needs nobody else is answered."""
_RESPONSE = re.compile(
    rb"HTTP/1\.1 (?P<status>\d{3}) [^\r\n]+\r\n"
    rb"(?P<headers>Cache-Control: no-store\r\n(?:[\w-]+: [^\r\n]*\r\n)*)?\r\n"
)
_LENGTH = re.compile(rb"Content-Length: (\d+)")
_FAULTS = {"internal_error", "service_fault", "unavailable", "overloaded", "unready", "journalled"}


class Port:
    """The public port; any bytes may be sent to it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._events = Events()
        logging.getLogger().addHandler(self._events)
        logging.getLogger("shim").setLevel(logging.INFO)
        self._folder = tempfile.mkdtemp()
        self._shim = self._loop.run_until_complete(self._open())

    async def _open(self) -> RunningShim:
        service = FakeService()
        service.add(make_replica("C1"))
        await service.start()
        self._stack.push_async_callback(service.stop)
        settings = Settings(
            listen=_ANYWHERE,
            admin_listen=_ANYWHERE,
            service=parse_target(service.listen),
            state_dir=Path(self._folder),
            verification=VerificationLimits(guesses_per_channel=100_000, max_waiting=10_000),
        )
        running = await self._stack.enter_async_context(open_shim(settings))
        await self._events.wait_for("directory_connected")
        shim = RunningShim(running.listen, running.admin_listen, service, self._events)
        assert (await shim.post()).status == 204
        return shim

    def read_any_request(self, sent: bytes) -> None:
        """What is sent is answered with whole answers, none of them a fault of ours, or not at all."""
        check_answers(self._loop.run_until_complete(self._exchange(sent)))
        self._shim.service.batches.clear()

    async def _exchange(self, sent: bytes) -> bytes:
        host, _, port = self._shim.listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        received = b""
        while not reader.at_eof():
            try:
                async with asyncio.timeout(0):
                    received += await reader.read(2**16)
            except (TimeoutError, ConnectionError):
                break
        writer.close()
        return received

    def check(self) -> None:
        """See that nothing was left behind: no failure in the log, nothing open, nothing held."""
        self._loop.run_until_complete(self._check())

    async def _check(self) -> None:
        async with asyncio.timeout(10):
            while await self._shim.metric("mo_webhook_connections"):
                continue
        for gauge in ("mo_webhook_body_bytes", "mo_password_computations_waiting", "mo_batch_waiting_messages"):
            assert await self._shim.metric(gauge) == 0, gauge
        faults = {name: await self._shim.answered(name) for name in _FAULTS}
        assert not any(faults.values()), faults
        bad = {"request_failed", "exception_lost", "task_died", "library"}
        assert not [line for line in self._events.lines if any(f'"event": "{name}"' in line for name in bad)]
        self._events.lines.clear()

    def close(self) -> None:
        """End the shim."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()
        logging.getLogger().removeHandler(self._events)
        shutil.rmtree(self._folder)


def check_answers(received: bytes) -> None:
    """See that what was received is a row of whole answers, none of a fault of ours; the last may be cut off."""
    while received:
        answer = _RESPONSE.match(received)
        assert answer or b"\r\n\r\n" not in received, received[:200]
        if answer is None:
            return
        assert answer["status"] < b"500", received[:200]
        assert answer["headers"] or answer["status"] == b"100", received[:200]
        length = _LENGTH.search(answer["headers"] or b"")
        received = received[answer.end() :]
        if length and not received.startswith(b"HTTP/"):  # else it answers a HEAD request
            received = received[int(length[1]) :]
