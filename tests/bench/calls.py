"""Unary gRPC calls from this process, as many at a time as a busy caller has under way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import grpc
from aicc.mo.v1.message_pb2 import MoMessage

from tests.bench.baselines.grpc_echo import METHOD, SERVICE
from tests.bench.measuring import cpu_seconds
from tests.bench.mo_messages import a_text
from tests.processes import Process

_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
IN_FLIGHT = 64

Call = Callable[[int], Awaitable[object]]
"""Makes one call, with its number; each number comes once."""


class CallRound(NamedTuple):
    """Messages a second, and the server's CPU microseconds for each. The caller's don't count."""

    rate: float
    server_us: float


@contextlib.asynccontextmanager
async def connected(process: Process) -> AsyncIterator[grpc.aio.Channel]:
    """Connect anew, as another process would."""
    async with grpc.aio.insecure_channel(process.listen, options=_OPTIONS) as channel:
        yield channel


async def call_for(
    seconds: float,
    server: Process,
    call: Call,
    numbers: Iterator[int],
    *,
    in_flight: int = IN_FLIGHT,
    messages_each: int = 1,
) -> CallRound:
    """Call for so long, with so many calls under way at any time."""
    ends_at, made = time.monotonic() + seconds, itertools.count()

    async def call_on() -> None:
        while time.monotonic() < ends_at:
            await call(next(numbers))
            next(made)

    started_at, before = time.monotonic(), cpu_seconds(server)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(call_on())
    messages = next(made) * messages_each
    used = cpu_seconds(server) - before
    return CallRound(messages / (time.monotonic() - started_at), used / messages * 1e6)


def echo_over(channel: grpc.aio.Channel) -> Call:
    """Return the call of baseline (d)."""
    method: grpc.aio.UnaryUnaryMultiCallable[MoMessage, MoMessage] = channel.unary_unary(
        f"/{SERVICE}/{METHOD}",
        request_serializer=MoMessage.SerializeToString,
        response_deserializer=MoMessage.FromString,
    )
    return lambda number: method(a_text(number, conversations=10_000))
