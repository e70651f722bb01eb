"""What goes wrong, and when: a seed says so."""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.faults.gateway import Gateway


class FaultKind(enum.Enum):
    """What can be done to a gateway."""

    SERVICE_KILLED = "service killed"
    SERVICE_FROZEN = "service frozen"
    SERVICE_RESTARTED = "service restarted"
    SERVICE_AWAY = "service away for a minute"
    WORKER_KILLED = "worker killed"
    WORKER_FROZEN = "worker frozen"
    WORKERS_ROLLED = "workers rolled"
    SHIM_KILLED = "shim killed"
    SHIM_RESTARTED = "shim restarted"
    DISK_FULL = "journal's disk full"
    LINK_BLACK_HOLED = "link black-holed"
    LINK_RESET = "link reset"
    LINK_DELAYED = "link delayed"
    LINK_HALF_CLOSED = "link half-closed"


LINK = (
    FaultKind.LINK_BLACK_HOLED,
    FaultKind.LINK_RESET,
    FaultKind.LINK_DELAYED,
    FaultKind.LINK_HALF_CLOSED,
    FaultKind.DISK_FULL,  # matters only while the service is away
)
PROCESSES = (
    FaultKind.SERVICE_KILLED,
    FaultKind.SERVICE_FROZEN,
    FaultKind.SERVICE_RESTARTED,
    FaultKind.WORKER_KILLED,
    FaultKind.WORKER_FROZEN,
    FaultKind.WORKERS_ROLLED,
)
WHOLE_SHIM = (FaultKind.SHIM_KILLED, FaultKind.SHIM_RESTARTED)


class Chaos:
    """Does harm to a gateway, one of each kind in a random order, and again."""

    def __init__(self, gateway: Gateway, kinds: Sequence[FaultKind], seed: str, tally: Counter[FaultKind]) -> None:
        self._gateway = gateway
        self._kinds = kinds
        self._random = random.Random(seed)
        self._tally = tally

    async def disturb(self, *, rounds: int) -> None:
        """Cause each kind of fault that many times; every one is lifted before the next."""
        for _ in range(rounds):
            for kind in self._random.sample(self._kinds, len(self._kinds)):
                await asyncio.sleep(self._random.uniform(0.1, 1))
                self._tally[kind] += 1
                await self._causes[kind](self)

    async def _kill_service(self) -> None:
        await self._gateway.replace_service(in_order=False, away_seconds=self._random.uniform(0, 2))

    async def _freeze_service(self) -> None:
        await self._gateway.freeze(self._gateway.service.pid, self._random.uniform(1, 5))

    async def _restart_service(self) -> None:
        await self._gateway.replace_service(in_order=True)

    async def _take_service_away(self) -> None:
        await self._gateway.replace_service(in_order=False, away_seconds=60)

    async def _kill_worker(self) -> None:
        if pids := self._gateway.worker_pids:
            self._gateway.kill_worker(self._random.choice(pids))

    async def _freeze_worker(self) -> None:
        if pids := self._gateway.worker_pids:
            await self._gateway.freeze(self._random.choice(pids), self._random.uniform(1, 5))

    async def _roll_workers(self) -> None:
        self._gateway.roll_workers()

    async def _kill_shim(self) -> None:
        await self._gateway.replace_shim(in_order=False)

    async def _restart_shim(self) -> None:
        await self._gateway.replace_shim(in_order=True)

    async def _fill_disk(self) -> None:
        # A full disk alone harms nobody: the journal is for when the service is away.
        with self._gateway.full_disk():
            await self._black_hole()

    async def _black_hole(self) -> None:
        self._gateway.proxy.black_hole()
        await self._lift_link_fault(1, 4)

    async def _reset(self) -> None:
        self._gateway.proxy.reset()
        await self._lift_link_fault(0, 2)

    async def _delay(self) -> None:
        self._gateway.proxy.delay(self._random.choice((0.02, 0.2, 1.5)))
        await self._lift_link_fault(1, 3)

    async def _half_close(self) -> None:
        self._gateway.proxy.half_close()
        await self._lift_link_fault(0, 2)

    async def _lift_link_fault(self, least_seconds: float, most_seconds: float) -> None:
        try:
            await asyncio.sleep(self._random.uniform(least_seconds, most_seconds))
        finally:
            self._gateway.proxy.pass_through()

    _causes: dict[FaultKind, Callable[[Chaos], Awaitable[None]]] = {  # noqa: RUF012
        FaultKind.SERVICE_KILLED: _kill_service,
        FaultKind.SERVICE_FROZEN: _freeze_service,
        FaultKind.SERVICE_RESTARTED: _restart_service,
        FaultKind.SERVICE_AWAY: _take_service_away,
        FaultKind.WORKER_KILLED: _kill_worker,
        FaultKind.WORKER_FROZEN: _freeze_worker,
        FaultKind.WORKERS_ROLLED: _roll_workers,
        FaultKind.SHIM_KILLED: _kill_shim,
        FaultKind.SHIM_RESTARTED: _restart_shim,
        FaultKind.DISK_FULL: _fill_disk,
        FaultKind.LINK_BLACK_HOLED: _black_hole,
        FaultKind.LINK_RESET: _reset,
        FaultKind.LINK_DELAYED: _delay,
        FaultKind.LINK_HALF_CLOSED: _half_close,
    }
