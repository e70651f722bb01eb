"""Senders and consumers that go on while something happens to the gateway."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import grpc
import grpc.aio
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_pb2 import ACK_STATUS_OK
from google.protobuf.duration_pb2 import Duration

from shim.service_channel import open_channel
from tests.gateway.gateway import FORM, Gateway

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500))
PAUSE_SECONDS = 0.02
"""Between two tries, so that nothing spins; nothing depends on it."""


class Progress:
    """Something that changes, and whose state can be waited for."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()

    async def note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(is_so)


class Traffic:
    """Conversations that go on until they are stopped, each message after the answer to the one before."""

    def __init__(self, gateway: Gateway, progress: Progress) -> None:
        self.sent: dict[str, list[str]] = defaultdict(list)
        self._gateway = gateway
        self._progress = progress
        self._is_over = False

    @property
    def total(self) -> int:
        return sum(len(sids) for sids in self.sent.values())

    def stop(self) -> None:
        self._is_over = True

    async def post(self, sender: str) -> None:
        while not self._is_over:
            sid = f"SM{sender.rpartition('+')[2]}n{len(self.sent[sender])}"
            response = await self._gateway.post("C1", FORM | {"From": sender, "MessageSid": sid})
            assert response.code == 204, f"{sid}: {response.code}"
            self.sent[sender].append(sid)
            await self._progress.note()


class Reader:
    """A consumer that subscribes again whenever its stream ends; while it holds, it acknowledges nothing."""

    def __init__(self, target: str, progress: Progress, *, lease_seconds: int) -> None:
        self.first: dict[str, list[str]] = defaultdict(list)
        """By sender, what came, in the order in which it came first."""
        self.settled: dict[str, list[str]] = defaultdict(list)
        """By sender, what was acknowledged and confirmed, in order."""
        self.attempts: set[int] = set()
        self.out: dict[str, tuple[str, str]] = {}
        """What it has on this stream, by ack id: sender and message."""
        self.is_holding = False
        self._target = target
        self._progress = progress
        self._lease = Duration(seconds=lease_seconds)

    @property
    def confirmed(self) -> int:
        return sum(len(sids) for sids in self.settled.values())

    async def read(self) -> None:
        async with open_channel(self._target, None, options=OPTIONS) as channel:
            while True:
                call = MessageFeedStub(channel).Subscribe(wait_for_ready=True)
                try:
                    await call.write(pb.SubscribeRequest(destination="default", ack_deadline=self._lease))
                    while isinstance(response := await call.read(), pb.SubscribeResponse):
                        await self._note(response)
                        if response.deliveries and not self.is_holding:
                            ack_ids = [delivery.ack_id for delivery in response.deliveries]
                            await call.write(pb.SubscribeRequest(ack_ids=ack_ids))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await asyncio.sleep(PAUSE_SECONDS)
                finally:
                    call.cancel()
                self.out.clear()

    async def _note(self, response: pb.SubscribeResponse) -> None:
        for result in response.ack_results:
            sender, sid = self.out.pop(result.ack_id)
            if result.status == ACK_STATUS_OK:
                self.settled[sender].append(sid)
        for delivery in response.deliveries:
            sender, sid = delivery.message.sender, delivery.message.message_sid
            assert sid not in self.settled[sender], f"{sid} was acknowledged, and came again"
            self.out[delivery.ack_id] = sender, sid
            self.attempts.add(delivery.delivery_attempt)
            if sid not in self.first[sender]:
                self.first[sender].append(sid)
        await self._progress.note()


class Asker:
    """Asks again and again what may be asked twice; no call may fail, but for a store that was too slow."""

    def __init__(self, target: str, progress: Progress) -> None:
        self.answers = 0
        self.backlog = -1
        self._target = target
        self._progress = progress

    async def ask(self) -> None:
        async with open_channel(self._target, None, options=OPTIONS) as channel:
            feed = MessageFeedStub(channel)
            while True:
                try:
                    response = await feed.ListDestinations(pb.ListDestinationsRequest(), timeout=60)
                except grpc.aio.AioRpcError as error:
                    if "the store took" not in (error.details() or ""):
                        raise
                else:
                    self.backlog = sum(destination.backlog for destination in response.destinations)
                    self.answers += 1
                await self._progress.note()
                await asyncio.sleep(PAUSE_SECONDS)
