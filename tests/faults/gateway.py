"""Services and shims as processes, a bad link before each service, and everything that can be done to them.

On SQLite there is one service and one shim; on PostgreSQL there are two of each, and every shim knows both services.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.faults.cluster import Cluster
from tests.faults.processes import find_children, limit_file_size
from tests.faults.proxy import FaultProxy
from tests.processes import Process, running_service, running_shim

_SMALL_DISK_BYTES = 4_096
_LOOK_SECONDS = 0.05
_READY_SECONDS = 60.0
_MOST_STARTS = 10


class Gateway:
    """What runs, whichever incarnation of it. Open it with `open_gateway`."""

    def __init__(self, folder: Path, stack: AsyncExitStack, *, workers: int, cluster: Cluster | None) -> None:
        self._folder = folder
        self._stack = stack
        self._workers = workers
        self.cluster = cluster
        self.replicas = 2 if cluster else 1
        """How many services there are, and how many shims."""
        self.services: list[Process] = []
        self.links: list[FaultProxy] = []
        """What lies between the shims and each service."""
        self.shims: list[Process] = []
        self._disk_was_full_at = -math.inf

    async def start(self) -> None:
        """Start everything."""
        for _ in range(self.replicas):
            service = await self._start_service(listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
            self.services.append(service)
            self.links.append(await self._stack.enter_async_context(FaultProxy(service.listen)))
        for number in range(self.replicas):
            self._folder.joinpath(f"host-{number}").mkdir()
            self.shims.append(await self._start_shim(number, listen="127.0.0.1:0", admin_listen="127.0.0.1:0"))

    @property
    def title(self) -> str:
        """What the services keep everything in."""
        return self.cluster.title if self.cluster else "SQLite"

    @property
    def target(self) -> str:
        """Where the services are, as gRPC wants it; not over the links."""
        return "ipv4:" + ",".join(service.listen for service in self.services)

    async def replace_service(self, number: int, *, in_order: bool, away_seconds: float = 0.0) -> None:
        """End a service, by SIGKILL or in order, and start another one in its place."""
        ended = self.services[number]
        await _end(ended, in_order=in_order)
        await asyncio.sleep(away_seconds)
        self.services[number] = await self._start_service(listen=ended.listen, admin_listen=ended.admin_listen)

    async def replace_shim(self, number: int, *, in_order: bool) -> None:
        """End a shim with all its workers, and start another one in its place."""
        ended = self.shims[number]
        await _end(ended, in_order=in_order)
        self.shims[number] = await self._start_shim(number, listen=ended.listen, admin_listen=ended.admin_listen)

    async def wait_until_ready(self) -> None:
        """Wait until every worker serves and follows the directory, and nothing waits in a journal."""
        deadline = time.monotonic() + _READY_SECONDS
        for shim in self.shims:
            while True:
                answer = await _ask(shim, "/readyz")
                if answer and json.loads(answer)["status"] == "ready":
                    break
                assert time.monotonic() < deadline, f"a shim is not ready: {answer}\n{shim.stderr}"
                await asyncio.sleep(_LOOK_SECONDS)

    async def ask_shims(self, path: str) -> Sequence[str | None]:
        """Return what each private port answers; None when it can't just now."""
        return [await _ask(shim, path) for shim in self.shims]

    @property
    def worker_pids(self) -> list[int]:
        """The processes that take messages; none of a shim that is being replaced."""
        return [pid for shim in self.shims for pid in find_children(shim.pid)]

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let no worker write beyond the first few KiB of any file: what a full disk is to a journal."""
        pids = self.worker_pids
        self._disk_was_full_at = math.inf
        try:
            for pid in pids:
                limit_file_size(pid, _SMALL_DISK_BYTES)
            yield
        finally:
            for pid in pids:
                limit_file_size(pid, None)
            self._disk_was_full_at = time.monotonic()

    def had_full_disk_since(self, moment: float) -> bool:
        """Whether the disk was full at any time since then, by the monotonic clock."""
        return self._disk_was_full_at >= moment

    async def _start_service(self, *, listen: str, admin_listen: str) -> Process:
        for _ in range(_MOST_STARTS if self.cluster else 1):
            service = self._build_service(listen=listen, admin_listen=admin_listen)
            # It waits for PostgreSQL, but not for long: then systemd starts it again.
            with contextlib.suppress(AssertionError):
                return await self._stack.enter_async_context(service)
        raise AssertionError("a service doesn't start; its log is above")

    def _build_service(self, *, listen: str, admin_listen: str) -> Process:
        if not self.cluster:
            return running_service(self._folder, listen=listen, admin_listen=admin_listen)
        dsn, listen_dsn = self.cluster.dsn, self.cluster.listen_dsn
        return running_service(
            self._folder, listen=listen, admin_listen=admin_listen, store=dsn, store_listen=listen_dsn
        )

    async def _start_shim(self, number: int, *, listen: str, admin_listen: str) -> Process:
        return await self._stack.enter_async_context(
            running_shim(
                self._folder / f"host-{number}",
                service=",".join(link.listen for link in self.links),
                listen=listen,
                admin_listen=admin_listen,
                workers=self._workers,
                host_id=f"host-{number}",
            )
        )


@asynccontextmanager
async def open_gateway(folder: Path, *, workers: int, cluster: Cluster | None = None) -> AsyncIterator[Gateway]:
    """Start everything, with all its data in `folder`; in the end, each process has to end in order.

    Each shim has so many workers.
    """
    async with AsyncExitStack() as stack:
        gateway = Gateway(folder, stack, workers=workers, cluster=cluster)
        await gateway.start()
        await gateway.wait_until_ready()
        yield gateway


async def _end(process: Process, *, in_order: bool) -> None:
    if in_order:
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    else:
        await asyncio.to_thread(process.kill)


async def _ask(shim: Process, path: str) -> str | None:
    return await asyncio.to_thread(_get, shim.admin_listen, path)


def _get(address: str, path: str) -> str | None:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None  # it is being replaced, or busy
    finally:
        connection.close()
