"""What the shim hosts said last of how they are. In memory: they say it again every 5 s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from service.store.contract import Clock

FORGOTTEN_AFTER_MICROSECONDS = 3600 * 1_000_000
MOST_HOSTS = 1000

Report = TypeVar("Report")


class Reported(NamedTuple, Generic[Report]):
    """A report and when it came."""

    report: Report
    at: int


class ShimReports(Generic[Report]):
    """The last report of each host, for an hour; of more than 1,000 hosts the most silent are forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, Reported[Report]] = {}

    def put(self, host_id: str, report: Report) -> None:
        """Remember a host's report instead of its last one."""
        self._reports.pop(host_id, None)
        self._reports[host_id] = Reported(report, self._clock())
        if len(self._reports) > MOST_HOSTS:
            del self._reports[next(iter(self._reports))]

    def list(self) -> Sequence[Reported[Report]]:
        """Return the reports by host."""
        oldest = self._clock() - FORGOTTEN_AFTER_MICROSECONDS
        self._reports = {host_id: reported for host_id, reported in self._reports.items() if reported.at >= oldest}
        return [reported for _, reported in sorted(self._reports.items())]
