"""Deliveries and acknowledgements a second: one stream and ten, acks together and alone, with ingest; beside an echo.

The consumers do nothing with what they get. They are one process, and the service another. With ingest, 1,000 messages
a second come in meanwhile, and what they cost is among what the service used.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub

from tests.bench.baselines.running import running_baseline
from tests.bench.calls import CallRound, call_for, connected, echo_over
from tests.bench.measuring import cpu_seconds, create_channel
from tests.bench.mo_messages import a_text
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.processes import Process, running_service

_MOST_ROUNDS = 3
_TOGETHER = 20_000
"""Messages of a round in which each response is acknowledged with one request."""
_ALONE = 5_000
"""Messages of a round in which each delivery is acknowledged with a request of its own."""
_CONVERSATIONS = 10_000
_CREDIT = 1_000
_BATCH = 500
_INGEST_RATE = 1_000
_INGEST_BATCH = 20


@dataclass(frozen=True)
class _Kind:
    """What is measured."""

    streams: int
    is_together: bool
    has_ingest: bool

    def __str__(self) -> str:
        streams = "1 stream" if self.streams == 1 else f"{self.streams} streams"
        acks = "acks together" if self.is_together else "each ack alone"
        return f"{streams}, {acks}" + (", with ingest" if self.has_ingest else "")

    @property
    def messages(self) -> int:
        return _TOGETHER if self.is_together else _ALONE


class _Round(NamedTuple):
    """A measurement: deliveries acknowledged a second, and what each cost the service and the consumers."""

    rate: float
    service_us: float
    consumers_us: float


def run(options: Options) -> Figures:
    """Alternate between the echo and all kinds."""
    kinds = [_Kind(*shape, has_ingest) for shape in ((1, True), (10, True), (1, False)) for has_ingest in (False, True)]
    with running_baseline("grpc_echo") as echo, running_service(options.folder) as service:
        create_channel(service)
        echoed, found = asyncio.run(_measure_all(options, echo, service, kinds))
    figures: dict[str, Figure] = {}
    for kind in kinds:
        figures |= _describe(kind, found[kind], echoed)
    figures["(d) bare echo: calls/s"] = spread([each.rate for each in echoed])
    figures["(d) bare echo: server's CPU us each"] = spread([each.server_us for each in echoed])
    return figures


async def _measure_all(
    options: Options, echo: Process, service: Process, kinds: Sequence[_Kind]
) -> tuple[Sequence[CallRound], Mapping[_Kind, Sequence[_Round]]]:
    echoed: list[CallRound] = []
    found: dict[_Kind, list[_Round]] = {kind: [] for kind in kinds}
    rounds = min(options.rounds, _MOST_ROUNDS)
    async with connected(echo) as to_echo, connected(service) as to_service:
        writer = _Writer(MessageIngestStub(to_service))
        for number in range(rounds):
            options.tell(f"round {number + 1} of {rounds}: (d) bare echo")
            echoed.append(await call_for(options.seconds, echo, echo_over(to_echo), itertools.count()))
            for kind in kinds:
                options.tell(f"round {number + 1} of {rounds}: {kind}")
                await writer.write(kind.messages)
                found[kind].append(await _measure(service, kind, writer))
    return echoed, found


async def _measure(service: Process, kind: _Kind, writer: _Writer) -> _Round:
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connected(service)) for _ in range(kind.streams)]
        consumption = _Consumption(kind)
        used, own_used, started_at = cpu_seconds(service), time.process_time(), time.monotonic()
        tasks = [asyncio.create_task(consumption.consume(MessageFeedStub(channel))) for channel in channels]
        tasks += [asyncio.create_task(writer.write_steadily())] if kind.has_ingest else []
        await asyncio.wait([asyncio.create_task(consumption.finished.wait()), *tasks], return_when="FIRST_COMPLETED")
        rate = consumption.acknowledged / (time.monotonic() - started_at)
        used, own_used = cpu_seconds(service) - used, time.process_time() - own_used
        for task in tasks:
            task.cancel()
        failures = [
            each for each in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(each, Exception)
        ]
        if failures:
            raise failures[0]
        return _Round(rate, *(each / consumption.acknowledged * 1e6 for each in (used, own_used)))


class _Consumption:
    """Consumers of one destination, until enough is acknowledged."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self.acknowledged = 0
        self.finished = asyncio.Event()

    async def consume(self, feed: MessageFeedStub) -> None:
        call = feed.Subscribe()
        await call.write(
            feed_pb.SubscribeRequest(destination="default", max_outstanding_messages=_CREDIT // self._kind.streams)
        )
        while isinstance(response := await call.read(), feed_pb.SubscribeResponse):
            self.acknowledged += sum(each.status == message_pb.ACK_STATUS_OK for each in response.ack_results)
            if self.acknowledged >= self._kind.messages:
                self.finished.set()
            ack_ids = [delivery.ack_id for delivery in response.deliveries]
            for together in [ack_ids] if self._kind.is_together and ack_ids else [[ack_id] for ack_id in ack_ids]:
                await call.write(feed_pb.SubscribeRequest(ack_ids=together))


class _Writer:
    """Stores messages of many conversations."""

    def __init__(self, ingest: MessageIngestStub) -> None:
        self._ingest = ingest
        self._numbers = itertools.count()

    async def write(self, count: int) -> None:
        for start in range(0, count, _BATCH):
            await self._write_batch(min(_BATCH, count - start))

    async def write_steadily(self) -> None:
        """Write at the rate that is planned, for as long as nobody cancels it."""
        started_at = time.monotonic()
        for batch in itertools.count(1):
            await self._write_batch(_INGEST_BATCH)
            due_at = started_at + batch * _INGEST_BATCH / _INGEST_RATE
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))

    async def _write_batch(self, count: int) -> None:
        messages = [a_text(number, conversations=_CONVERSATIONS) for number in itertools.islice(self._numbers, count)]
        await self._ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


def _describe(kind: _Kind, rounds: Sequence[_Round], echoed: Sequence[CallRound]) -> Mapping[str, Figure]:
    ratios = [each.service_us / echo.server_us for each, echo in zip(rounds, echoed, strict=True)]
    return {
        f"{kind}: deliveries/s": spread([each.rate for each in rounds]),
        f"{kind}: service us each": spread([each.service_us for each in rounds]),
        f"{kind}: service us each / (d)": spread(ratios, 2),
        f"{kind}: consumers us each": spread([each.consumers_us for each in rounds]),
    }
