"""The service is away for a minute at 80 % of the direct path's capacity: how long the journal takes to empty."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from tests.bench.load import Sent, Target, measure_capacity, posting
from tests.bench.measuring import Counts, cpu_seconds, create_channel, machine_cpu_seconds, own_cpu_seconds
from tests.bench.scenario import Figures, Options, spread
from tests.processes import Process, running_service, running_shim

_LOAD = 0.8
_CONNECTIONS = 1_000
_NORMAL_SECONDS = 10.0
_PATIENCE_SECONDS = 600.0
"""A journal that isn't empty by then never will be."""
_LOOK_SECONDS = 0.05
_TELL_SECONDS = 5.0
_TAKEN = {"accepted", "duplicate", "held"}


def run(options: Options) -> Figures:
    """Normal traffic, the outage, and the same traffic until some time after the journal is empty."""
    with ExitStack() as stack:
        service = stack.enter_context(running_service(options.folder))
        shim = stack.enter_context(running_shim(options.folder, service=service.listen, workers=options.workers))
        target = Target(shim.listen, create_channel(service))
        options.tell("the direct path's capacity")
        capacity = measure_capacity(target)
        rate = _LOAD * median(capacity)
        with posting(target, connections=_CONNECTIONS, rate=rate) as traffic:
            course = _Outage(stack, options, service, shim, traffic.pid).run(rate)
        return {
            "direct path: capacity, messages/s": spread(capacity),
            "traffic: messages/s planned": round(rate),
            **_describe_traffic(traffic.sent),
            **_describe_course(course),
        }


@dataclass(frozen=True)
class _Course:
    """What was counted at each turn of events."""

    start: Counts
    kill: Counts
    back: Counts
    empty: Counts
    end: Counts
    start_seconds: float
    """How long the service took to start."""
    is_emptied: bool
    refills: int
    """How often it was filled and emptied again afterwards."""
    cores: Mapping[str, float]
    """How many cores each had while the journal was handed over."""


class _Outage:
    """Service and shim under traffic, and what happens to them."""

    def __init__(self, stack: ExitStack, options: Options, service: Process, shim: Process, sender_pid: int) -> None:
        self._stack = stack
        self._options = options
        self._service = service
        self._shim = shim
        self._sender_pid = sender_pid

    def run(self, rate: float) -> _Course:
        start = Counts(self._shim)
        self._options.tell(f"{_NORMAL_SECONDS:.0f} s of {rate:.0f} messages/s")
        time.sleep(_NORMAL_SECONDS)
        kill = Counts(self._shim)
        self._service.kill()
        self._options.tell(f"{self._options.seconds:.0f} s without the service")
        time.sleep(self._options.seconds)
        restart_at = time.monotonic()
        emptied = self._count_emptied()
        self._restart()
        back = Counts(self._shim)
        before, before_at = self._read_cpu(), time.monotonic()
        self._wait_until(emptied + 1)
        cores = {
            name: (seconds - before[name]) / (time.monotonic() - before_at)
            for name, seconds in self._read_cpu().items()
        }
        empty = Counts(self._shim)
        self._options.tell(f"{_NORMAL_SECONDS:.0f} s more of the same traffic")
        time.sleep(_NORMAL_SECONDS)
        times = self._count_emptied() - emptied
        return _Course(
            start, kill, back, empty, Counts(self._shim), back.at - restart_at, times > 0, max(0, times - 1), cores
        )

    def _restart(self) -> None:
        old = self._service
        self._service = self._stack.enter_context(
            running_service(self._options.folder, listen=old.listen, admin_listen=old.admin_listen)
        )

    def _count_emptied(self) -> int:
        return sum(event.get("event") == "journal_empty" for event in self._shim.events)

    def _wait_until(self, emptied: int) -> None:
        """Return when the journal was emptied so many times, or when it is clear that it won't be."""
        ends_at = time.monotonic() + _PATIENCE_SECONDS
        tell_at = 0.0
        while self._count_emptied() < emptied and time.monotonic() < ends_at:
            if time.monotonic() > tell_at:
                tell_at = time.monotonic() + _TELL_SECONDS
                self._options.tell(f"{Counts(self._shim).total('mo_journal_messages')} messages in the journal")
            time.sleep(_LOOK_SECONDS)

    def _read_cpu(self) -> Mapping[str, float]:
        """Tell the CPU seconds of each part so far."""
        drainer = own_cpu_seconds(self._shim.pid)
        parts = {
            "drainer": drainer,
            "workers": cpu_seconds(self._shim) - drainer,
            "service": cpu_seconds(self._service),
            "wrk": own_cpu_seconds(self._sender_pid),
        }
        return parts | {"all others": machine_cpu_seconds() - sum(parts.values())}


def _describe_traffic(sent: Sent) -> Figures:
    return {
        "traffic: messages/s answered": round(sent.rate),
        "traffic: messages answered": sent.requests,
        "traffic: not 2xx, broken, not within 15 s": f"{sent.refused}, {sent.broken}, {sent.timed_out}",
        "traffic: sent more than 0.1 s late": sent.late,
        "traffic: the latest, s": round(sent.latest_seconds, 2),
        "traffic: due and not sent": sent.omitted,
        "traffic: answered after ms p50, p99, most": f"{sent.p50_ms:.0f}, {sent.p99_ms:.0f}, {sent.max_ms:.0f}",
    }


def _describe_course(course: _Course) -> Figures:
    drain_seconds = course.empty.at - course.back.at
    handed_over = _between(course.back, course.empty, "mo_journal_handed_over_total")
    journalled = _between(course.kill, course.back, "mo_journal_appended_total")
    return {
        "normal: accepted messages/s": _rate(course.start, course.kill, _TAKEN),
        "outage: s until the service was back": round(course.back.at - course.kill.at, 1),
        "outage: s of these to start it": round(course.start_seconds, 1),
        "outage: messages journalled": journalled,
        "outage: journalled messages/s": _rate(course.kill, course.back, {"journalled"}),
        "journal: messages when the service was back": course.back.total("mo_journal_messages"),
        "journal: s until it was empty": round(drain_seconds, 1) if course.is_emptied else "never emptied",
        "journal: messages/s handed over": round(handed_over / drain_seconds),
        "journal: messages/s that came meanwhile": _rate(course.back, course.empty, {"journalled", *_TAKEN}),
        "journal: cores meanwhile": ", ".join(f"{name} {cores:.2f}" for name, cores in course.cores.items()),
        "journal: taken in, all in all": course.end.total("mo_journal_appended_total"),
        "journal: handed over, all in all": course.end.total("mo_journal_handed_over_total"),
        "afterwards: accepted messages/s": _rate(course.empty, course.end, _TAKEN),
        "afterwards: times that the journal filled again": course.refills,
        "afterwards: messages journalled": _between(course.empty, course.end, "mo_journal_appended_total"),
    }


def _between(start: Counts, end: Counts, name: str) -> int:
    return end.total(name) - start.total(name)


def _rate(start: Counts, end: Counts, answers: Collection[str]) -> int:
    count = sum(
        each.total("mo_webhook_answers_total", answer=answer) * sign
        for each, sign in ((end, 1), (start, -1))
        for answer in answers
    )
    return round(count / (end.at - start.at))
