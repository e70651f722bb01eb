"""A consumer that does nothing but acknowledge, and remembers when each message came."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet

import grpc
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub

from tests.bench.calls import connected
from tests.bench.mo_messages import DESTINATION
from tests.processes import Process

_PATIENCE_SECONDS = 300.0
_IDLE_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
_CREDIT = 1_000


@contextlib.asynccontextmanager
async def consuming(service: Process) -> AsyncIterator[Consumer]:
    """Consume everything that comes while the block lasts."""
    async with connected(service) as channel, asyncio.TaskGroup() as tasks:
        consumer = Consumer()
        consumption = tasks.create_task(consumer.consume(MessageFeedStub(channel)))
        yield consumer
        consumption.cancel()


class Consumer:
    """Tells what came when."""

    def __init__(self) -> None:
        self.count = 0
        """Of all messages that ever came."""
        self.breaks = 0
        """How often the service ended the stream, because it was too slow for itself."""
        self.since_receipt_ms: list[float] = []
        """How long each message took since the shim had received it, by the clock of this machine."""
        self._came_at: dict[str, float] = {}
        self._has_come = asyncio.Event()

    async def consume(self, feed: MessageFeedStub) -> None:
        """Take messages and acknowledge them, for as long as nobody cancels it."""
        while True:
            try:
                await self._consume(feed)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            self.breaks += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _consume(self, feed: MessageFeedStub) -> None:
        call = feed.Subscribe()
        await call.write(feed_pb.SubscribeRequest(destination=DESTINATION, max_outstanding_messages=_CREDIT))
        async for response in call:
            if response.deliveries:
                self._note(response)
                await call.write(feed_pb.SubscribeRequest(ack_ids=[each.ack_id for each in response.deliveries]))

    async def take(self, message_sids: AbstractSet[str]) -> Mapping[str, float]:
        """Return when each of these messages came, by the monotonic clock, once all of them are there."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not message_sids <= self._came_at.keys():
                self._has_come.clear()
                await self._has_come.wait()
        return {sid: self._came_at.pop(sid) for sid in message_sids}

    async def wait_for(self, count: int) -> None:
        """Return when so many messages have come."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.count < count:
                self._has_come.clear()
                await self._has_come.wait()

    async def wait_until_idle(self) -> None:
        """Return when nothing has come for two seconds."""
        while True:
            self._has_come.clear()
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._has_come.wait()
            except TimeoutError:
                return

    def forget(self) -> None:
        """Forget what came so far."""
        self.since_receipt_ms = []
        self._came_at.clear()

    def _note(self, response: feed_pb.SubscribeResponse) -> None:
        self.count += len(response.deliveries)
        now, now_ns = time.monotonic(), time.time_ns()
        for delivery in response.deliveries:
            self._came_at[delivery.message.message_sid] = now
            self.since_receipt_ms.append((now_ns - delivery.message.receive_time.ToNanoseconds()) / 1e6)
        self._has_come.set()
