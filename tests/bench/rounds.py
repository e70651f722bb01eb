"""Contenders that are measured in turn, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.load import Manner, Sent, Target, post_for
from tests.bench.measuring import cpu_seconds
from tests.bench.scenario import Options
from tests.processes import Process

CpuClock = Callable[[], float]
"""Tells the CPU seconds that something has had so far."""

_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Contender:
    """Something that is posted to, and who works for it."""

    name: str
    target: Target
    cpu: Mapping[str, CpuClock]
    """By name: shim, service, postgres."""
    crowd: int = 1
    """How many times the others' connections it has."""


class Round(NamedTuple):
    """One measurement: what the callers saw, and CPU microseconds a message of everybody who worked for it."""

    sent: Sent
    cpu_us: Mapping[str, float]
    messages: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.sent.seconds

    def total_us(self, *, without: str = "") -> float:
        """CPU microseconds a message of all together, or of all but one."""
        return sum(used for name, used in self.cpu_us.items() if name != without)


def clock_of(process: Process) -> CpuClock:
    return lambda: cpu_seconds(process)


def alternate(contenders: Sequence[Contender], options: Options) -> Mapping[str, Sequence[Round]]:
    """Measure all of them in turn, as many rounds as asked for; each round begins with another one."""
    found: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        options.tell(f"warming up: {contender.name}")
        measure(contender, options, _WARM_UP_SECONDS)
    for number in range(options.rounds):
        for contender in _turned(contenders, number):
            options.tell(f"round {number + 1} of {options.rounds}: {contender.name}")
            found[contender.name].append(measure(contender, options, options.seconds))
    return found


def measure(contender: Contender, options: Options, seconds: float) -> Round:
    """Post to one of them as fast as it answers."""
    before = {name: clock() for name, clock in contender.cpu.items()}
    sent = post_for(seconds, contender.target, connections=options.connections * contender.crowd)
    messages = sent.requests if contender.target.manner is Manner.NEVER else sent.taken
    if not messages:
        raise RuntimeError(f"{contender.name}: no message was taken; {sent}")
    return Round(
        sent, {name: (clock() - before[name]) / messages * 1e6 for name, clock in contender.cpu.items()}, messages
    )


def ratios(
    ours: Sequence[Round], theirs: Sequence[Round], figure: Callable[[Round], float] = Round.total_us
) -> Sequence[float]:
    """Return how much we have of what they have, in each round."""
    return [figure(our) / figure(their) for our, their in zip(ours, theirs, strict=True)]


def _turned(contenders: Sequence[Contender], number: int) -> Iterator[Contender]:
    start = number % len(contenders)
    return itertools.chain(contenders[start:], contenders[:start])
