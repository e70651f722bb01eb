"""A flood at three times a worker's capacity while the service is frozen: how much memory the worker needs.

Once with many callers at a time, and once with as many as a worker lets in: who waits 15 s for an answer, as Twilio
does, soon has all its connections.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from shim.connection_limits import ConnectionLimits
from tests.bench.load import Sent, Target, measure_capacity, posting
from tests.bench.measuring import Counts, MemorySamples, create_channel, resident_mib
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.processes import running_service, running_shim

_LOAD = 3.0
_CONNECTIONS = (2_000, ConnectionLimits().max_connections)
_EARLY_SECONDS = 10
"""By then the journal has taken over."""


def run(options: Options) -> Figures:
    """Flood a fresh worker with each number of connections."""
    figures: dict[str, Figure] = {}
    for connections in _CONNECTIONS:
        folder = options.folder / str(connections)
        folder.mkdir()
        found = _flood(options, folder, connections)
        figures |= {f"{connections} connections, {name}": value for name, value in found.items()}
    return figures


def _flood(options: Options, folder: Path, connections: int) -> Figures:
    with ExitStack() as stack:
        service = stack.enter_context(running_service(folder))
        shim = stack.enter_context(running_shim(folder, service=service.listen))
        target = Target(shim.listen, create_channel(service))
        options.tell("a worker's capacity")
        capacity = measure_capacity(target)
        rate = _LOAD * median(capacity)
        (worker,) = shim.worker_pids
        service.freeze()
        options.tell(f"{options.seconds:.0f} s of {rate:.0f} messages/s on {connections} connections")
        start = Counts(shim)
        with (
            MemorySamples(worker) as memory,
            posting(target, connections=connections, rate=rate) as traffic,
        ):
            time.sleep(options.seconds)
            end = Counts(shim)
        return {
            "capacity: messages/s": spread(capacity),
            "flood: messages/s planned": round(rate),
            **_describe_traffic(traffic.sent),
            **_describe_counts(start, end),
            **_describe_memory(memory.mib, resident_mib(worker, is_peak=True)),
        }


def _describe_traffic(sent: Sent) -> Figures:
    return {
        "flood: messages/s answered": round(sent.rate),
        "flood: due and not sent, nobody free": sent.omitted,
        "flood: messages answered": sent.requests,
        "flood: not 2xx, broken, not within 15 s": f"{sent.refused}, {sent.broken}, {sent.timed_out}",
        "flood: ms to the answer p50, p99, most": f"{sent.p50_ms:.0f}, {sent.p99_ms:.0f}, {sent.max_ms:.0f}",
    }


def _describe_counts(start: Counts, end: Counts) -> Figures:
    names: Mapping[str, str] = {
        "journal: messages taken in": "mo_journal_appended_total",
        "journal: messages refused": "mo_journal_refused_total",
        "worker: requests given up as too slow": "mo_webhook_timeouts_total",
        "worker: callers that hung up": "mo_webhook_callers_gone_total",
    }
    counted = {figure: end.total(name) - start.total(name) for figure, name in names.items()}
    return counted | {"worker: connections open in the end": end.total("mo_webhook_connections")}


def _describe_memory(mib: Sequence[float], peak: float) -> Figures:
    early, middle = mib[min(_EARLY_SECONDS, len(mib) - 1)], mib[len(mib) // 2]
    return {
        "memory: MiB at the start": round(mib[0], 1),
        f"memory: MiB after {_EARLY_SECONDS} s": round(early, 1),
        "memory: MiB at most": round(peak, 1),
        "memory: MiB in the end": round(mib[-1], 1),
        f"memory: MiB grown since {_EARLY_SECONDS} s": round(mib[-1] - early, 1),
        "memory: MiB grown in the second half": round(mib[-1] - middle, 1),
    }
