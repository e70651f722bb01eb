"""What a message costs the service that comes over gRPC directly, one by one or together, beside a bare echo.

CPU is the server's alone. 64 calls are under way, or 4 batches of 100 messages.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack

import grpc
from aicc.mo.v1.message_ingest_pb2 import IngestBatchRequest, IngestRequest
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub

from tests.bench.baselines.running import running_baseline
from tests.bench.calls import Call, CallRound, call_for, connected, echo_over
from tests.bench.measuring import create_channel
from tests.bench.mo_messages import a_text
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import Process, running_service

ECHO, UNARY, BATCH = "(d) bare echo", "Ingest", "IngestBatch of 100"
_TOGETHER = 100
_BATCHES_IN_FLIGHT = 4
_CONVERSATIONS = 10_000
_WARM_UP_SECONDS = 1.0


def run(options: Options) -> Figures:
    """Alternate between the echo, single messages and batches."""
    with ExitStack() as stack:
        echo = stack.enter_context(running_baseline("grpc_echo"))
        service = stack.enter_context(running_service(options.folder))
        create_channel(service)
        found = asyncio.run(_measure_all(options, echo, service))
    figures: dict[str, Figure] = {
        "IngestBatch of 100: CPU a message / (d)": Aimed(5, _ratios(found, BATCH), 0.15),
        "Ingest: CPU a message / (d)": Aimed(5, _ratios(found, UNARY), 1.5),
    }
    for name, rounds in found.items():
        figures[f"{name}: messages/s"] = spread([each.rate for each in rounds])
        figures[f"{name}: server's CPU us/message"] = spread([each.server_us for each in rounds], 1)
    return figures


async def _measure_all(options: Options, echo: Process, service: Process) -> Mapping[str, Sequence[CallRound]]:
    async with AsyncExitStack() as stack:
        to_echo = await stack.enter_async_context(connected(echo))
        to_service = await stack.enter_async_context(connected(service))
        numbers = itertools.count()
        measured: Mapping[str, Callable[[float], Awaitable[CallRound]]] = {
            ECHO: lambda seconds: call_for(seconds, echo, echo_over(to_echo), numbers),
            UNARY: lambda seconds: call_for(seconds, service, _ingest_over(to_service), numbers),
            BATCH: lambda seconds: _send_batches(seconds, service, to_service, numbers),
        }
        for measure in measured.values():
            await measure(_WARM_UP_SECONDS)
        found: dict[str, list[CallRound]] = {name: [] for name in measured}
        for number, (name, measure) in itertools.product(range(options.rounds), measured.items()):
            options.tell(f"round {number + 1} of {options.rounds}: {name}")
            found[name].append(await measure(options.seconds))
        return found


def _ingest_over(channel: grpc.aio.Channel) -> Call:
    stub = MessageIngestStub(channel)
    return lambda number: stub.Ingest(IngestRequest(message=a_text(number, conversations=_CONVERSATIONS)))


async def _send_batches(
    seconds: float, service: Process, channel: grpc.aio.Channel, numbers: Iterator[int]
) -> CallRound:
    stub = MessageIngestStub(channel)

    async def send(first: int) -> None:
        more = itertools.islice(numbers, _TOGETHER - 1)
        messages = [a_text(number, conversations=_CONVERSATIONS) for number in (first, *more)]
        await stub.IngestBatch(IngestBatchRequest(messages=messages))

    return await call_for(seconds, service, send, numbers, in_flight=_BATCHES_IN_FLIGHT, messages_each=_TOGETHER)


def _ratios(found: Mapping[str, Sequence[CallRound]], name: str) -> Sequence[float]:
    return [ours.server_us / bare.server_us for ours, bare in zip(found[name], found[ECHO], strict=True)]
