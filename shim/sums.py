"""The metrics of several processes as those of one, which never run backwards when a process ends.

prometheus_client's own multiprocess mode keeps a file for each process that ever was, and knows no gauge that is read
when asked for; so each worker sends its samples, and those of the dead are remembered as one sum.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Snapshot = Sequence[Mapping[str, Any]]
"""The samples of a process, as JSON has them."""

_Key = tuple[str, tuple[tuple[str, str], ...]]
_Combine = Callable[[float, float], float]

_CUMULATIVE = frozenset({"counter", "histogram", "summary"})
# Gauges whose sum says nothing; of all others the host's is the sum.
_COMBINED: Mapping[str, _Combine] = {
    "mo_replica_revision": min,
    "mo_replica_connected": min,
    "mo_replica_age_seconds": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "python_info": max,
}


def take_snapshot(registry: CollectorRegistry) -> Snapshot:
    """Read all samples of this process."""
    return [
        {
            "name": metric.name,
            "documentation": metric.documentation,
            "type": metric.type,
            # When a series began isn't told: of a sum it would say nothing.
            "samples": [
                [sample.name, dict(sample.labels), sample.value]
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ],
        }
        for metric in registry.collect()
    ]


class Sums(Collector):
    """Adds up what `read` returns when it is collected, and what the dead have left."""

    def __init__(self, read: Callable[[], Iterable[Snapshot]]) -> None:
        self._read = read
        self._left: Snapshot = []

    def bury(self, last: Snapshot) -> None:
        """Keep what a process counted that has ended; its gauges end with it."""
        counted = [family for family in last if _is_cumulative(family)]
        self._left = [_to_family(metric) for metric in _add([self._left, counted])]

    def collect(self) -> Iterable[Metric]:
        """Return the sums."""
        return _add([self._left, *self._read()])


def _is_cumulative(family: Mapping[str, Any]) -> bool:
    return family["type"] in _CUMULATIVE


def _add(snapshots: Iterable[Snapshot]) -> Sequence[Metric]:
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for family in (family for snapshot in snapshots for family in snapshot):
        name = family["name"]
        metrics.setdefault(name, Metric(name, family["documentation"], family["type"]))
        _add_samples(values.setdefault(name, {}), family["samples"], _COMBINED.get(name))
    for name, metric in metrics.items():
        for (sample, labels), value in values[name].items():
            metric.add_sample(sample, dict(labels), value)
    return list(metrics.values())


def _add_samples(
    sums: dict[_Key, float], samples: Iterable[tuple[str, dict[str, str], float]], by: _Combine | None
) -> None:
    for name, labels, value in samples:
        key = (name, tuple(labels.items()))
        known = sums.get(key)
        if known is None:
            sums[key] = value
        else:
            sums[key] = by(known, value) if by else known + value


def _to_family(metric: Metric) -> Mapping[str, Any]:
    samples = [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]
    return {"name": metric.name, "documentation": metric.documentation, "type": metric.type, "samples": samples}
