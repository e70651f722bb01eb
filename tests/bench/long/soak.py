"""Ten times as long as asked for (10 minutes) at 70 % of capacity: what the processes' memory grows by.

Each message is challenged first, as Twilio's are, and a consumer takes it. Growth is that from the second tenth of the
time, when all caches are warm, to the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.bench.consumer import consuming
from tests.bench.load import Manner, Sent, Target, measure_capacity, posting
from tests.bench.measuring import MemorySamples, create_channel
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

_LOAD = 0.7
_TIMES = 10
_CONNECTIONS = 200
_MOST_GROWTH = 5.0


@dataclass(frozen=True)
class _Course:
    """What was sent, and what the processes needed meanwhile."""

    capacity: Sequence[float]
    sent: Sent
    worker_mib: Sequence[float]
    service_mib: Sequence[float]


def run(options: Options) -> Figures:
    """Find the capacity, then send 70 % of it."""
    with ExitStack() as stack:
        service = stack.enter_context(running_service(options.folder))
        shim = stack.enter_context(running_shim(options.folder, service=service.listen))
        return _describe(asyncio.run(_run(options, service, shim)))


async def _run(options: Options, service: Process, shim: Process) -> _Course:
    (worker,) = shim.worker_pids
    target = Target(shim.listen, await asyncio.to_thread(create_channel, service), Manner.CHALLENGED)
    async with consuming(service) as consumer:
        options.tell("what can be taken at most, with a consumer beside")
        capacity = await asyncio.to_thread(measure_capacity, target)
        rate = _LOAD * median(capacity)
        with (
            MemorySamples(worker) as of_worker,
            MemorySamples(service.pid) as of_service,
            posting(target, connections=_CONNECTIONS, rate=rate) as traffic,
        ):
            for part in range(_TIMES):
                options.tell(f"{part} of {_TIMES} parts are over, {rate:.0f} messages/s")
                await asyncio.sleep(options.seconds)
                consumer.forget()
    return _Course(capacity, traffic.sent, of_worker.mib, of_service.mib)


def _describe(course: _Course) -> Figures:
    sent = course.sent
    figures: dict[str, Figure] = {
        "capacity, challenged and consumed: messages/s": spread(course.capacity),
        "messages taken": sent.taken,
        "messages/s taken": round(sent.taken / sent.seconds),
        "answers other than expected": sent.bad,
    }
    for name, mib in (("worker", course.worker_mib), ("service", course.service_mib)):
        tenth = max(1, len(mib) // _TIMES)
        early, late = median(mib[tenth : 2 * tenth]), median(mib[-tenth:])
        figures[f"{name}: memory grown by %"] = Aimed(7, [(late / early - 1) * 100], _MOST_GROWTH, digits=1)
        figures[f"{name}: MiB early, late, at most"] = f"{early:.1f}, {late:.1f}, {max(mib):.1f}"
    return figures
