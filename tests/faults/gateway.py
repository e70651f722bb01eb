"""A service and a shim as processes, a bad link between them, and everything that can be done to them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.faults.proxy import FaultProxy
from tests.processes import Process, running_service, running_shim

_SMALL_DISK_BYTES = 4_096
_LOOK_SECONDS = 0.05
_READY_SECONDS = 30.0


class Gateway:
    """What runs, whichever incarnation of it. Open it with `open_gateway`."""

    service: Process
    shim: Process

    def __init__(self, folder: Path, stack: AsyncExitStack, *, workers: int) -> None:
        self._folder = folder
        self._stack = stack
        self._workers = workers
        self._disk_was_full_at = -math.inf

    async def start(self) -> None:
        """Start everything."""
        self.service = await self._stack.enter_async_context(running_service(self._folder))
        self.proxy = await self._stack.enter_async_context(FaultProxy(self.service.listen))
        await self._start_shim(listen="127.0.0.1:0", admin_listen="127.0.0.1:0")

    async def replace_service(self, *, in_order: bool, away_seconds: float = 0.0) -> None:
        """End the service, by SIGKILL or in order, and start another one in its place."""
        await _end(self.service, in_order=in_order)
        await asyncio.sleep(away_seconds)
        self.service = await self._stack.enter_async_context(
            running_service(self._folder, listen=self.service.listen, admin_listen=self.service.admin_listen)
        )

    async def replace_shim(self, *, in_order: bool) -> None:
        """End the shim with all its workers, and start another one in its place."""
        await _end(self.shim, in_order=in_order)
        await self._start_shim(listen=self.shim.listen, admin_listen=self.shim.admin_listen)

    async def wait_until_ready(self) -> None:
        """Wait until every worker serves and follows the directory, and nothing waits in the journal."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            answer = await self.ask_shim("/readyz")
            if answer and json.loads(answer)["status"] == "ready":
                return
            assert time.monotonic() < deadline, f"the shim is not ready: {answer}\n{self.shim.stderr}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def ask_shim(self, path: str) -> str | None:
        """Return what the private port answers; None when it can't just now."""
        return await asyncio.to_thread(_get, self.shim.admin_listen, path)

    @property
    def worker_pids(self) -> list[int]:
        """The processes that take messages; none while the shim is being replaced."""
        return _find_children(self.shim.pid)

    def kill_worker(self, pid: int) -> None:
        """End a worker with SIGKILL; its supervisor starts another one."""
        _signal(pid, signal.SIGKILL)

    def roll_workers(self) -> None:
        """Let the supervisor replace its workers one by one."""
        _signal(self.shim.pid, signal.SIGHUP)

    async def freeze(self, pid: int, seconds: float) -> None:
        """Stop a process with SIGSTOP for a while; it may be gone by the end of it."""
        _signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _signal(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let no worker write beyond the first few KiB of any file: what a full disk is to a journal."""
        pids = self.worker_pids
        self._disk_was_full_at = math.inf
        try:
            for pid in pids:
                _limit_file_size(pid, _SMALL_DISK_BYTES)
            yield
        finally:
            for pid in pids:
                _limit_file_size(pid, resource.RLIM_INFINITY)
            self._disk_was_full_at = time.monotonic()

    def had_full_disk_since(self, moment: float) -> bool:
        """Whether the disk was full at any time since then, by the monotonic clock."""
        return self._disk_was_full_at >= moment

    async def _start_shim(self, *, listen: str, admin_listen: str) -> None:
        self.shim = await self._stack.enter_async_context(
            running_shim(
                self._folder,
                service=self.proxy.listen,
                listen=listen,
                admin_listen=admin_listen,
                workers=self._workers,
            )
        )


@asynccontextmanager
async def open_gateway(folder: Path, *, workers: int) -> AsyncIterator[Gateway]:
    """Start everything, with all its data in `folder`; in the end, each process has to end in order."""
    async with AsyncExitStack() as stack:
        gateway = Gateway(folder, stack, workers=workers)
        await gateway.start()
        await gateway.wait_until_ready()
        yield gateway


async def _end(process: Process, *, in_order: bool) -> None:
    if in_order:
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    else:
        await asyncio.to_thread(process.kill)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _limit_file_size(pid: int, size: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        allowed = most if size == resource.RLIM_INFINITY else size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (allowed, most))


def _get(address: str, path: str) -> str | None:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None  # it is being replaced, or busy
    finally:
        connection.close()


def _find_children(pid: int) -> list[int]:
    """Return the children of a process; none when it is gone."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                children += map(int, task.joinpath("children").read_text("ascii").split())
    return children
