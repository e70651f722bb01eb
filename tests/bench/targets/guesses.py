"""What somebody who guesses passwords costs the others, and whether the time of a refusal tells anything.

Good messages come as fast as they are answered, alternating without and with guesses on many connections: at their
own channel, and at channels that don't exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from tests.bench.load import PATH, Target
from tests.bench.measuring import Counts, create_channel
from tests.bench.rounds import Contender, Round, clock_of, measure
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim
from tests.shim.caller import Caller, basic

_SCRIPT = Path(__file__).parent / "guess.lua"
_GUESSERS = 256
_TIMED = 150
_WARM_UP = 20
_MOST_SECONDS = 5.0
_KINDS = {"its own channel": 0, "unknown channels": 1_000_000}
_REFUSALS = ("bad_credentials", "verification_limited", "verification_overloaded")


@dataclass
class _Found:
    """What came of all rounds. The CPU is the shim's for each good message, guesses included."""

    calm: list[Round] = field(default_factory=list)
    flooded: dict[str, list[Round]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    guesses: Counter[str] = field(default_factory=Counter)
    computations: Counter[str] = field(default_factory=Counter)
    wrong_ms: list[float] = field(default_factory=list)
    unknown_ms: list[float] = field(default_factory=list)


def run(options: Options) -> Figures:
    """Measure normal traffic and both kinds of guesses in turn, then time refusals."""
    found = _Found()
    folder = options.folder
    with ExitStack() as stack:
        service = stack.enter_context(running_service(folder))
        shim = stack.enter_context(running_shim(folder, service=service.listen))
        target = Target(shim.listen, create_channel(service))
        contender = Contender("gateway", target, {"shim": clock_of(shim)})
        measure(contender, options, 1)
        for number in range(options.rounds):
            options.tell(f"round {number + 1} of {options.rounds}")
            _run_round(found, shim, contender, options, number)
        without_limits = stack.enter_context(
            running_shim(folder, service=service.listen, state_dir=folder / "timed", max_guesses_per_channel=100_000)
        )
        without_limits.wait_for_event("directory_received")
        asyncio.run(_time_refusals(found, Target(without_limits.listen, target.authorization)))
    return _describe(found)


def _run_round(found: _Found, shim: Process, contender: Contender, options: Options, number: int) -> None:
    seconds = min(options.seconds, _MOST_SECONDS)
    found.calm.append(measure(contender, options, seconds))
    for kind, channels in _KINDS.items():
        before = Counts(shim)
        with _guessing(contender.target.address, run=number, channels=channels):
            found.flooded[kind].append(measure(contender, options, seconds))
        after = Counts(shim)
        found.guesses[kind] += _count_refusals(after) - _count_refusals(before)
        name = "mo_password_computations_total"
        found.computations[kind] += after.total(name) - before.total(name)


def _count_refusals(counts: Counts) -> int:
    return sum(counts.total("mo_webhook_answers_total", answer=each) for each in _REFUSALS)


@contextlib.contextmanager
def _guessing(address: str, *, run: int, channels: int) -> Iterator[None]:
    """Guess on many connections while the block lasts."""
    shape = ["-t1", f"-c{_GUESSERS}", "-d100h", "--timeout=15s", "-s", str(_SCRIPT)]
    command = ["wrk", *shape, f"http://{address}{PATH}", "--", str(run), str(channels)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


async def _time_refusals(found: _Found, target: Target) -> None:
    """Time both kinds of refusal in turn, one at a time."""
    unknown = PATH + "-unknown"
    async with Caller(target.address) as caller:
        for number in range(_TIMED + _WARM_UP):
            for path, kept in ((PATH, found.wrong_ms), (unknown, found.unknown_ms)):
                started = time.perf_counter()
                response = await caller.post(path=path, authorization=basic("bench", f"wrong {number}"))
                milliseconds = (time.perf_counter() - started) * 1e3
                if response.status != 401:
                    raise RuntimeError(f"a wrong password was answered with {response.status}")
                if number >= _WARM_UP:
                    kept.append(milliseconds)


def _describe(found: _Found) -> Figures:
    summary: dict[str, Figure] = {
        "no guesses: messages/s": spread([each.sent.rate for each in found.calm]),
        "no guesses: shim's CPU us/message": spread([each.total_us() for each in found.calm]),
    }
    for kind, flooded in found.flooded.items():
        ratios = [each.sent.rate / calm.sent.rate for each, calm in zip(flooded, found.calm, strict=True)]
        seconds = sum(each.sent.seconds for each in flooded)
        rates = (found.guesses[kind] / seconds, found.computations[kind] / seconds)
        described: dict[str, Figure] = {
            "messages/s": spread([each.sent.rate for each in flooded]),
            "of what it is without": spread(ratios, 2),
            "shim's CPU us/message": spread([each.total_us() for each in flooded]),
            "not 2xx": sum(each.sent.bad for each in flooded),
            "p99 ms with, without": f"{_p99(flooded):.0f}, {_p99(found.calm):.0f}",
            "guesses/s, computed": f"{rates[0]:.0f}, {rates[1]:.1f}",
        }
        summary |= {f"guesses, {kind}: {name}": value for name, value in described.items()}
    for name, times in (("wrong password", found.wrong_ms), ("unknown channel", found.unknown_ms)):
        summary[f"refusal, {name}: ms p10, p50, p90, p99"] = ", ".join(f"{each:.1f}" for each in _percentiles(times))
    return summary


def _p99(rounds: Sequence[Round]) -> float:
    return median(each.sent.p99_ms for each in rounds)


def _percentiles(values: Sequence[float]) -> Sequence[float]:
    cuts = quantiles(values, n=100)
    return [cuts[percent - 1] for percent in (10, 50, 90, 99)]
