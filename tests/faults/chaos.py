"""What goes wrong, and when: a seed says so."""

from __future__ import annotations

import asyncio
import enum
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.faults.cluster import Cluster
from tests.faults.gateway import Gateway
from tests.faults.processes import freeze, send
from tests.faults.proxy import FaultProxy


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
    POSTGRES_RESTARTED = "PostgreSQL restarted (immediate)"
    POSTGRES_KILLED = "PostgreSQL killed"
    POSTGRES_CUT_OFF = "PostgreSQL cut off"
    CONNECTIONS_ENDED = "PostgreSQL's connections ended"
    STANDBY_PROMOTED = "standby promoted"


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
POSTGRES = (
    FaultKind.POSTGRES_RESTARTED,
    FaultKind.POSTGRES_KILLED,
    FaultKind.POSTGRES_CUT_OFF,
    FaultKind.CONNECTIONS_ENDED,
)
STANDBY = (FaultKind.STANDBY_PROMOTED,)
TOGETHER = (LINK, (*PROCESSES, *WHOLE_SHIM, FaultKind.SERVICE_AWAY), (*POSTGRES, *STANDBY))
"""Those of one group come one after the other, and at the same time as those of the other groups."""


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
        await self._gateway.replace_service(self._one(), in_order=False, away_seconds=self._random.uniform(0, 2))

    async def _freeze_service(self) -> None:
        await freeze(self._gateway.services[self._one()].pid, self._random.uniform(1, 5))

    async def _restart_service(self) -> None:
        await self._gateway.replace_service(self._one(), in_order=True)

    async def _take_service_away(self) -> None:
        everywhere = range(self._gateway.replicas)
        away = [self._gateway.replace_service(number, in_order=False, away_seconds=60) for number in everywhere]
        await asyncio.gather(*away)

    async def _kill_worker(self) -> None:
        if pids := self._gateway.worker_pids:
            send(self._random.choice(pids), signal.SIGKILL)  # its supervisor starts another one

    async def _freeze_worker(self) -> None:
        if pids := self._gateway.worker_pids:
            await freeze(self._random.choice(pids), self._random.uniform(1, 5))

    async def _roll_workers(self) -> None:
        send(self._gateway.shims[self._one()].pid, signal.SIGHUP)  # it replaces them one by one

    async def _kill_shim(self) -> None:
        await self._gateway.replace_shim(self._one(), in_order=False)

    async def _restart_shim(self) -> None:
        await self._gateway.replace_shim(self._one(), in_order=True)

    async def _fill_disk(self) -> None:
        # A full disk alone harms nobody: the journal is for when the service is away.
        with self._gateway.full_disk():
            await self._worsen(self._gateway.links, FaultProxy.black_hole, 1, 4)

    async def _black_hole(self) -> None:
        await self._worsen(self._some_links(), FaultProxy.black_hole, 1, 4)

    async def _reset(self) -> None:
        await self._worsen(self._some_links(), FaultProxy.reset, 0, 2)

    async def _delay(self) -> None:
        seconds = self._random.choice((0.02, 0.2, 1.5))
        await self._worsen(self._some_links(), lambda link: link.delay(seconds), 1, 3)

    async def _half_close(self) -> None:
        await self._worsen(self._some_links(), FaultProxy.half_close, 0, 2)

    async def _restart_postgres(self) -> None:
        await self._cluster.restart_immediately()

    async def _kill_postgres(self) -> None:
        await self._cluster.kill()

    async def _cut_postgres_off(self) -> None:
        cut = self._random.choice((FaultProxy.black_hole, FaultProxy.reset))
        await self._worsen([self._cluster.link], cut, 1, 4)

    async def _end_connections(self) -> None:
        await self._cluster.end_connections()

    async def _promote_standby(self) -> None:
        await self._cluster.fail_over()

    def _one(self) -> int:
        """Choose a service or a shim."""
        return self._random.randrange(self._gateway.replicas)

    def _some_links(self) -> Sequence[FaultProxy]:
        """Choose all links or one."""
        links = self._gateway.links
        return self._random.choice((links, [self._random.choice(links)]))

    async def _worsen(
        self,
        links: Sequence[FaultProxy],
        worsen: Callable[[FaultProxy], None],
        least_seconds: float,
        most_seconds: float,
    ) -> None:
        """Let something be wrong with links for a time in between."""
        try:
            for link in links:
                worsen(link)
            await asyncio.sleep(self._random.uniform(least_seconds, most_seconds))
        finally:
            for link in links:
                link.pass_through()

    @property
    def _cluster(self) -> Cluster:
        assert self._gateway.cluster, "SQLite has no server that could fail"
        return self._gateway.cluster

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
        FaultKind.POSTGRES_RESTARTED: _restart_postgres,
        FaultKind.POSTGRES_KILLED: _kill_postgres,
        FaultKind.POSTGRES_CUT_OFF: _cut_postgres_off,
        FaultKind.CONNECTIONS_ENDED: _end_connections,
        FaultKind.STANDBY_PROMOTED: _promote_standby,
    }
