"""The host's workers: as many as are wanted, each replaced when it dies, freezes or is rolled over.

A worker that freezes is replaced after 10 s and killed after 30 s, so that its callers, whom nobody would answer, are
hung up on; one that thaws before is drained. Nothing that was answered is lost by it: that is in the service or in
the journal, whose drainer hands over what dead workers left.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from shim.errors import StartError
from shim.health import Readiness, Reason
from shim.lifetime import cancel, log_death
from shim.settings import Settings
from shim.sums import Snapshot, Sums, take_snapshot
from shim.worker_child import WorkerChild
from shim.worker_process import WorkerProcess

_log = logging.getLogger(__name__)

_ROUND_SECONDS = 2.0
_FROZEN_ROUNDS = 5
_LEAVE_ROUNDS = 10
"""A worker that was told to stop, or can't hear it, is killed after 20 s: its own drain takes 7 at most."""
_START_SECONDS = 30.0
_STOP_SECONDS = 8.0
_REPORT_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 10.0
"""A worker that lived for so long wasn't ended by how it began."""


class Workers:
    """All workers of the host."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        registry: CollectorRegistry,
        *,
        first: Sequence[WorkerChild] = (),
    ) -> None:
        """Nobody serves yet. `registry` is the supervisor's own, which `sums` adds to those of the workers.

        `first` are children that were started already.
        """
        self._settings = settings
        self._sockets = sockets
        self._registry = registry
        self._first = deque(first)
        self._alive: dict[int, WorkerProcess] = {}
        self._burials: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._rolling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._places: list[_Place] = []
        self._is_up = False
        self.sums = Sums(self._read_metrics)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Keep as many workers as are wanted, from when the first serves until the context ends; then drain them.

        Raises `StartError` when the first can't serve.
        """
        self._places += [_Place(self) for _ in range(self._settings.workers)]
        for work in (self._look_after(), *(place.keep() for place in self._places)):
            self._run(work)
        try:
            await self._wait_for_the_first()
            self._is_up = True
            yield
        finally:
            self._is_up = False
            for task in [*self._tasks]:
                await cancel(task)
            await self._stop_all()

    async def refresh(self) -> None:
        """Ask all workers how they are; what is heard from those who don't answer soon is their last report."""
        await asyncio.gather(*[worker.wait_for_report(_REPORT_SECONDS) for worker in self._current()])

    def find_reasons(self) -> Iterable[Reason]:
        """Return what is wrong with any worker: it ends the host's readiness only when no worker is better."""
        workers = self._current()
        wanted = len(self._places)
        if not workers:
            yield Reason(Readiness.NOT_READY, "no_worker", "No worker serves. The log says why.")
            return
        if len(workers) < wanted:
            detail = f"{len(workers)} of {wanted} workers serve. The others are starting; the log says why."
            yield Reason(Readiness.DEGRADED, "workers_missing", detail)
        silent = [worker for worker in workers if worker.owes_report]
        for worker in silent:
            facts = {"slot": worker.slot, "pid": worker.pid}
            yield Reason(Readiness.DEGRADED, "worker_silent", "A worker doesn't answer its supervisor.", facts)
        yield from _merge([worker.report.reasons for worker in workers if worker not in silent])

    @property
    def count(self) -> int:
        """How many workers serve."""
        return len(self._current())

    def roll(self) -> None:
        """Replace each worker by a new one, one after another: the new one serves before the old one stops.

        Does nothing while the first one starts, which is new, and when all are stopping.
        """
        if self._is_up:
            self._run(self._roll())

    async def _roll(self) -> None:
        async with self._rolling:
            _log.info("rolling", extra={"workers": len(self._places)})
            for place in self._places:
                if not await place.renew():
                    _log.error("roll_failed", extra={"action": "the old workers go on; see why the new one ended"})
                    return
            _log.info("rolled")

    async def start_one(self) -> WorkerProcess | None:
        """Start a worker in the lowest free slot, and wait until it serves or has ended.

        Returns None when none could be started, as on a machine that has no memory left; the log says why.
        """
        try:
            worker = await self._let_one_serve()
        except OSError as error:
            action = "see whether memory, processes or open files have run out"
            _log.error("worker_not_started", extra={"reason": str(error), "action": action})
            return None
        burial = asyncio.create_task(self._bury(worker))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await worker.settled.wait()
        if worker.is_serving:
            _log.info("worker_started", extra={"slot": worker.slot, "pid": worker.pid})
        else:
            worker.kill()
        return worker

    async def _let_one_serve(self) -> WorkerProcess:
        async with self._starting:
            slot = next(number for number in range(len(self._alive) + 1) if number not in self._alive)
            child = self._first.popleft() if self._first else WorkerChild.start()
            worker = await WorkerProcess.let_serve(child, self._settings, slot, self._sockets)
            self._alive[slot] = worker
            return worker

    def kill_all(self) -> None:
        """End all workers at once."""
        for worker in self._alive.values():
            worker.kill()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_death)

    async def _wait_for_the_first(self) -> None:
        await asyncio.wait([place.begun for place in self._places], return_when=asyncio.FIRST_COMPLETED)
        first = next(place.begun.result() for place in self._places if place.begun.done())
        if first is None:
            raise StartError("no worker could be started; see the log above")
        if not first.is_serving:
            await first.ended.wait()
            raise StartError(
                first.failure or f"the worker ended with exit code {first.exit_code} as it started; see its log above"
            )

    async def _look_after(self) -> NoReturn:
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            for worker in [*self._alive.values()]:
                # Rounds are counted and not seconds: when this process was frozen itself, no worker is blamed.
                worker.silence = worker.silence + 1 if worker.owes_report else 0
                if worker.is_serving:
                    worker.ask()
                worker.rounds_leaving += worker.is_leaving
                if worker.silence == _FROZEN_ROUNDS:
                    _log.error("worker_frozen", extra={"slot": worker.slot, "pid": worker.pid})
                    worker.stop()
                    worker.released.set()
                if worker.rounds_leaving >= _LEAVE_ROUNDS:
                    worker.kill()

    async def _bury(self, worker: WorkerProcess) -> None:
        await worker.ended.wait()
        self.sums.bury(worker.report.metrics)
        del self._alive[worker.slot]
        facts = {"slot": worker.slot, "pid": worker.pid, "exit_code": worker.exit_code}
        if worker.is_leaving:
            _log.info("worker_ended", extra=facts)
        elif self._is_up or not worker.failure:  # else the start fails, and says so
            _log.error("worker_died", extra=facts | ({"reason": worker.failure} if worker.failure else {}))
        await worker.close()

    async def _stop_all(self) -> None:
        for worker in self._alive.values():
            worker.stop()
        if self._burials:
            await asyncio.wait(self._burials, timeout=_STOP_SECONDS)
        self.kill_all()
        if self._burials:
            await asyncio.wait(self._burials)

    def _current(self) -> Sequence[WorkerProcess]:
        return [worker for worker in self._alive.values() if worker.is_serving and not worker.is_leaving]

    def _read_metrics(self) -> Iterable[Snapshot]:
        return [take_snapshot(self._registry), *(worker.report.metrics for worker in self._alive.values())]


class _Place:
    """One of the workers that are wanted, whichever process that is just now."""

    def __init__(self, workers: Workers) -> None:
        self.begun: asyncio.Future[WorkerProcess | None] = asyncio.get_running_loop().create_future()
        """The first worker, when it serves or has failed; None when it could not even be started."""
        self._workers = workers
        self._worker: WorkerProcess | None = None
        self._changing = asyncio.Lock()

    async def keep(self) -> NoReturn:
        """Have a worker here, for ever."""
        pause = _SHORTEST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            worker = await self._fill()
            if not self.begun.done():
                self.begun.set_result(worker)
            started_at = loop.time()
            if worker:
                await worker.released.wait()
            if loop.time() - started_at > _STEADY_SECONDS:
                pause = _SHORTEST_PAUSE_SECONDS
            if not (worker and worker.is_leaving):
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    async def _fill(self) -> WorkerProcess | None:
        async with self._changing:
            if self._worker is None or self._worker.released.is_set():
                self._worker = await self._workers.start_one()
            return self._worker

    async def renew(self) -> bool:
        """Put a new worker in the place of the one that is here; False, and it stays, when the new one can't serve."""
        async with self._changing:
            successor = await self._workers.start_one()
            if successor is None or not successor.is_serving:
                return False
            old, self._worker = self._worker, successor
        if old:
            old.stop()
            old.released.set()
            await old.ended.wait()
        return True


def _merge(reports: Sequence[Sequence[Reason]]) -> Iterable[Reason]:
    """Return each reason once; none is worse for the host than for the best of its workers."""
    is_any_ready = any(all(r.readiness is not Readiness.NOT_READY for r in reasons) for reasons in reports)
    found: dict[str, Reason] = {}
    for reason in (reason for reasons in reports for reason in reasons):
        is_worse = reason.readiness is Readiness.NOT_READY and is_any_ready
        readiness = Readiness.DEGRADED if is_worse else reason.readiness
        found.setdefault(reason.reason, Reason(readiness, reason.reason, reason.detail, reason.facts))
    return found.values()
