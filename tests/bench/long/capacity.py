"""What so many messages a second need: cores, commits and disk, computed from what a message costs here.

Messages come as Twilio sends them, each challenged first, at fixed rates, into one shim of one worker and one service
on PostgreSQL, and a consumer takes and acknowledges each: what is measured is what all of that costs a message. The
table is computed from it. More workers, replicas and servers are taken to cost a message as much as one does; nothing
of that is measured here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import asyncpg

from tests.bench.consumer import consuming
from tests.bench.database import Database, running_database
from tests.bench.load import Manner, Target, posting
from tests.bench.measuring import Counts, cpu_seconds, create_channel
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

USED_SHARE = 0.7
"""How much of a core is planned to be used at the peak; the rest is for what nobody planned."""

MEASURED_RATES = (100, 1_000)
"""Messages a second. The more there are, the less each costs: with 100/s each travels alone, and with 1,000/s, which is
about what a service is planned to take, several share a commit."""

PLANNED_RATES = (100, 1_000, 10_000, 100_000)

_MOST_SECONDS = 10.0
_WARM_UP_SECONDS = 2.0

_LOOK = """
SELECT xact_commit, pg_current_wal_lsn() - '0/0'::pg_lsn, pg_database_size(datname)
FROM pg_stat_database WHERE datname = current_database()
"""


class Cost(NamedTuple):
    """What a message costs at a rate: CPU microseconds, commits, and bytes that are written and that stay."""

    shim_us: float
    service_us: float
    postgres_us: float
    commits: float
    wal_bytes: float
    disk_bytes: float
    batch: float
    """How many messages a batch had."""
    taken: float
    """How many messages a second there really were."""


class Need(NamedTuple):
    """What a rate needs, altogether."""

    shim_workers: int
    service_processes: int
    postgres_cores: int
    commits: float
    """A second."""
    wal_mb: float
    """A second."""
    disk_gb: float
    """Of a million messages that are kept."""


def plan(rate: float, cost: Cost) -> Need:
    """Compute what a rate needs. A shim's worker and a service use one core each. Pure."""
    return Need(
        _cores(rate, cost.shim_us),
        _cores(rate, cost.service_us),
        _cores(rate, cost.postgres_us),
        rate * cost.commits,
        rate * cost.wal_bytes / 1e6,
        cost.disk_bytes * 1e6 / 1e9,
    )


def choose_cost(rate: float, costs: Mapping[int, Cost]) -> Cost:
    """Return what was measured at the highest rate that isn't above this one, or else at the lowest."""
    return costs[max((measured for measured in costs if measured <= rate), default=min(costs))]


def _cores(rate: float, microseconds: float) -> int:
    return math.ceil(rate * microseconds / 1e6 / USED_SHARE)


def run(options: Options) -> Figures:
    """Measure, and compute the table."""
    found: dict[int, list[Cost]] = {rate: [] for rate in MEASURED_RATES}
    with ExitStack() as stack:
        gateway = _open_gateway(stack, options)
        for number in range(options.rounds):
            for rate in MEASURED_RATES:
                options.tell(f"round {number + 1} of {options.rounds}: {rate} messages/s")
                found[rate].append(asyncio.run(gateway.measure(rate, options)))
    return {**_describe_costs(found), "answers other than expected": gateway.bad, **_describe_needs(found)}


def _open_gateway(stack: ExitStack, options: Options) -> _Gateway:
    database = stack.enter_context(running_database())
    dsn = database.make("capacity")
    service = stack.enter_context(running_service(options.folder, store=dsn))
    shim = stack.enter_context(running_shim(options.folder, service=service.listen))
    target = Target(shim.listen, create_channel(service), Manner.CHALLENGED)
    return _Gateway(shim, service, database, dsn, target)


@dataclass
class _Gateway:
    """What is measured."""

    shim: Process
    service: Process
    database: Database
    dsn: str
    target: Target
    bad: int = 0
    """How many answers were other than expected."""

    async def measure(self, rate: int, options: Options) -> Cost:
        """Post and consume at that rate, and return what a message cost meanwhile."""
        async with consuming(self.service):
            with posting(self.target, connections=options.connections, rate=rate) as traffic:
                await asyncio.sleep(_WARM_UP_SECONDS)
                before = await self._look()
                await asyncio.sleep(min(options.seconds, _MOST_SECONDS))
                after = await self._look()
        self.bad += traffic.sent.bad
        *totals, messages, batches, seconds = (end - start for start, end in zip(before, after, strict=True))
        shim, service, postgres, commits, wal, disk = (each / messages for each in totals)
        cpu = (shim * 1e6, service * 1e6, postgres * 1e6)
        return Cost(*cpu, commits, wal, disk, messages / batches, messages / seconds)

    async def _look(self) -> Sequence[float]:
        """Return what was used so far, in the order of `Cost`; then messages, batches and the time."""
        connection = await asyncpg.connect(self.dsn)
        try:
            (written,) = await connection.fetch(_LOOK)
        finally:
            await connection.close()
        counts = await asyncio.to_thread(Counts, self.service)
        cpu = (cpu_seconds(self.shim), cpu_seconds(self.service), self.database.cpu_seconds())
        batches = [counts.total(f"mo_service_batch_messages_{part}") for part in ("sum", "count")]
        return [*cpu, *map(float, written), *batches, time.monotonic()]


_COLUMNS = (
    *("messages/s", "shim workers", "services", "PostgreSQL cores"),
    *("commits/s", "WAL, MB/s", "GB a million messages"),
)
_SHOWN = (
    ("taken", "messages/s that were taken", 0),
    ("batch", "messages a batch", 1),
    ("shim_us", "CPU us/message, shim", 0),
    ("service_us", "CPU us/message, service", 0),
    ("postgres_us", "CPU us/message, postgres", 0),
    ("commits", "commits/message", 2),
    ("wal_bytes", "bytes of WAL/message", 0),
    ("disk_bytes", "bytes that stay on disk/message", 0),
)


def _describe_costs(found: Mapping[int, Sequence[Cost]]) -> Figures:
    figures: dict[str, Figure] = {}
    for rate, costs in found.items():
        for part, name, digits in _SHOWN:
            figures[f"at {rate} messages/s: {name}"] = spread([getattr(cost, part) for cost in costs], digits)
    return figures


def _describe_needs(found: Mapping[int, Sequence[Cost]]) -> Figures:
    """Return the table of docs/operations.md, line by line."""
    medians = {rate: Cost(*map(median, zip(*costs, strict=True))) for rate, costs in found.items()}
    rows = [f"| {' | '.join(_COLUMNS)} |", f"|{'--:|' * len(_COLUMNS)}"]
    for rate in PLANNED_RATES:
        need = plan(rate, choose_cost(rate, medians))
        counts = f"{need.shim_workers:,} | {need.service_processes:,} | {need.postgres_cores:,} | {need.commits:,.0f}"
        rows.append(f"| {rate:,} | {counts} | {need.wal_mb:,.1f} | {need.disk_gb:.1f} |")
    return {f"table, line {number}": row for number, row in enumerate(rows, 1)}
