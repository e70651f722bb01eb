"""How long a message takes at a fixed rate: until it is answered, hence on disk, and until a consumer has it.

Each message is challenged first, as Twilio's are, and that counts: its time runs from when it was due. An open loop: a
message is due when it is due, whatever became of those before it. At 80 % of capacity wrk posts, since our own caller
would need a core for itself: there times are those of single requests, and a consumer's run from the shim's receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import NamedTuple

from tests.bench.consumer import Consumer, consuming
from tests.bench.load import Manner, Sent, Target, measure_capacity, new_run, posting
from tests.bench.measuring import create_channel
from tests.bench.open_loop import OpenLoop
from tests.bench.rounds import CpuClock, clock_of
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

RATES = (50, 200)
_LOAD = 0.8
_CONNECTIONS = 500
_DURABLE_MS, _CONSUMED_MS, _LOADED_MS = 12.0, 25.0, 100.0
_WARM_UP_SECONDS = 2.0


class _Round(NamedTuple):
    """Milliseconds of each message until its answer, and until a consumer had it; CPU microseconds a message."""

    answered: Sequence[float]
    consumed: Sequence[float]
    cpu_us: Mapping[str, float]


class _LoadedRound(NamedTuple):
    """What wrk saw, and milliseconds from the shim's receipt to the consumer."""

    sent: Sent
    consumed: Sequence[float]


@dataclass(frozen=True)
class _Gateway:
    """Shim and service."""

    target: Target
    service: Process
    cpu: Mapping[str, CpuClock]


def run(options: Options) -> Figures:
    """Alternate between the rates, then go to 80 % of what can be taken."""
    with ExitStack() as stack:
        service = stack.enter_context(running_service(options.folder))
        shim = stack.enter_context(running_shim(options.folder, service=service.listen))
        target = Target(shim.listen, create_channel(service), Manner.CHALLENGED)
        cpu = {"shim": clock_of(shim), "service": clock_of(service)}
        return asyncio.run(_run(options, _Gateway(target, service, cpu)))


async def _run(options: Options, gateway: _Gateway) -> Figures:
    found: dict[int, list[_Round]] = {rate: [] for rate in RATES}
    async with consuming(gateway.service) as consumer:
        loop = OpenLoop(gateway.target)
        options.tell("warming up")
        await _measure(gateway, loop, consumer, RATES[-1], _WARM_UP_SECONDS)
        for number in range(options.rounds):
            for rate in RATES:
                options.tell(f"round {number + 1} of {options.rounds}: {rate} messages/s")
                found[rate].append(await _measure(gateway, loop, consumer, rate, options.seconds))
        loop.close()
        loaded = await _measure_loaded(gateway, consumer, options)
        failures = {
            "answers other than expected at these rates": loop.bad,
            "consumer's broken streams": consumer.breaks,
        }
    figures = {name: value for rate in RATES for name, value in _describe(rate, found[rate]).items()}
    return {**figures, **loaded, **failures}


async def _measure(gateway: _Gateway, loop: OpenLoop, consumer: Consumer, rate: int, seconds: float) -> _Round:
    before = {name: clock() for name, clock in gateway.cpu.items()}
    posted = await loop.post(new_run(), rate, seconds)
    consumed_at = await consumer.take(posted.keys())
    used = {name: (clock() - before[name]) / len(posted) * 1e6 for name, clock in gateway.cpu.items()}
    answered = [(each.answered_at - each.due_at) * 1e3 for each in posted.values()]
    consumed = [(consumed_at[sid] - each.due_at) * 1e3 for sid, each in posted.items()]
    return _Round(answered, consumed, used)


def _describe(rate: int, rounds: Sequence[_Round]) -> Figures:
    answered = [quantiles(each.answered, n=100) for each in rounds]
    consumed = [quantiles(each.consumed, n=100) for each in rounds]
    name = f"at {rate} messages/s"
    figures: dict[str, Figure] = {
        f"{name}: durable and answered, p95 ms": Aimed(4, [cut[94] for cut in answered], _DURABLE_MS, digits=1),
        f"{name}: webhook to consumer, p95 ms": Aimed(4, [cut[94] for cut in consumed], _CONSUMED_MS, digits=1),
    }
    for what, cuts in (("durable and answered", answered), ("webhook to consumer", consumed)):
        for percent in (50, 99):
            figures[f"{name}: {what}, p{percent} ms"] = spread([cut[percent - 1] for cut in cuts], 1)
    for part in rounds[0].cpu_us:
        figures[f"{name}: CPU us/message, {part}"] = spread([each.cpu_us[part] for each in rounds])
    return figures


async def _measure_loaded(gateway: _Gateway, consumer: Consumer, options: Options) -> Figures:
    options.tell("what can be taken at most, with a consumer beside")
    capacity = await asyncio.to_thread(measure_capacity, gateway.target)
    rate = _LOAD * median(capacity)
    await consumer.wait_until_idle()
    rounds = []
    for number in range(options.rounds):
        options.tell(f"round {number + 1} of {options.rounds}: {rate:.0f} messages/s")
        consumer.forget()
        already = consumer.count
        with posting(gateway.target, connections=_CONNECTIONS, rate=rate) as traffic:
            await asyncio.sleep(options.seconds)
        await consumer.wait_for(already + traffic.sent.taken)
        rounds.append(_LoadedRound(traffic.sent, consumer.since_receipt_ms))
    return _describe_loaded(capacity, rate, rounds)


def _describe_loaded(capacity: Sequence[float], rate: float, rounds: Sequence[_LoadedRound]) -> Figures:
    consumed = [quantiles(each.consumed, n=100) for each in rounds]
    return {
        "capacity, challenged and consumed: messages/s": spread(capacity),
        "80 % of it: messages/s planned": round(rate),
        "80 % of it: messages/s taken": spread([each.sent.taken / each.sent.seconds for each in rounds]),
        "80 % of it: durable and answered, p99 ms": Aimed(
            4, [each.sent.p99_5_ms for each in rounds], _LOADED_MS, digits=1
        ),
        "80 % of it: receipt to consumer, p99 ms": Aimed(4, [cut[98] for cut in consumed], _LOADED_MS, digits=1),
        "80 % of it: receipt to consumer, p50 ms": spread([cut[49] for cut in consumed], 1),
        "80 % of it: sent more than 0.1 s late, or never": sum(each.sent.late + each.sent.omitted for each in rounds),
        "80 % of it: answers other than expected": sum(each.sent.bad for each in rounds),
    }
