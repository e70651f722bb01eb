"""AICC services that take what was written: steady ones, slow ones, and ones that die with what they have."""

from __future__ import annotations

import asyncio
import enum
import json
import random

import grpc
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from google.protobuf.duration_pb2 import Duration

from tests.faults.ledger import Ledger, Seen

ACK_DEADLINE_SECONDS = 2
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    # Of several services, each takes some of the streams; what one has lost goes to another one.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


class Manner(enum.Enum):
    """How a consumer works."""

    STEADY = "steady"
    SLOW = "slow"
    DYING = "dying"


MANNERS = (Manner.STEADY, Manner.STEADY, Manner.STEADY, Manner.SLOW, Manner.DYING, Manner.DYING)


class Consumer:
    """One consumer of a destination, which subscribes again whenever its stream ends."""

    def __init__(
        self, feed: MessageFeedStub, destination: str, *, manner: Manner, ledger: Ledger, calm: asyncio.Event, seed: str
    ) -> None:
        """Be of that manner until it is calm: then there is nothing left to prove, and steady is faster."""
        self._feed = feed
        self._destination = destination
        self._own_manner = manner
        self._calm = calm
        self._ledger = ledger
        self._random = random.Random(seed)
        self._unsettled: dict[str, Seen] = {}

    @property
    def _manner(self) -> Manner:
        return Manner.STEADY if self._calm.is_set() else self._own_manner

    async def consume(self) -> None:
        """Take and acknowledge, for as long as nobody cancels it."""
        while True:
            self._unsettled.clear()
            lifetime = self._random.uniform(0.5, 3) if self._manner is Manner.DYING else None
            call = self._feed.Subscribe(wait_for_ready=True)
            try:
                async with asyncio.timeout(lifetime):
                    await self._serve(call)
            except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.sleep(0.05)  # it died, or the service did
            finally:
                call.cancel()

    async def _serve(
        self, call: grpc.aio.StreamStreamCall[feed_pb.SubscribeRequest, feed_pb.SubscribeResponse]
    ) -> None:
        opening = feed_pb.SubscribeRequest(
            destination=self._destination,
            max_outstanding_messages=20,
            ack_deadline=Duration(seconds=ACK_DEADLINE_SECONDS),
        )
        await call.write(opening)
        while isinstance(response := await call.read(), feed_pb.SubscribeResponse):
            self._take(response)
            if response.deliveries:
                await self._work()
                await call.write(feed_pb.SubscribeRequest(ack_ids=[each.ack_id for each in response.deliveries]))

    def _take(self, response: feed_pb.SubscribeResponse) -> None:
        for result in response.ack_results:
            settled = self._unsettled.pop(result.ack_id, None)
            if settled is None:
                self._ledger.note_surplus_answer(result.ack_id)
            elif result.status == message_pb.ACK_STATUS_OK:
                self._ledger.acknowledge(settled)
        for delivery in response.deliveries:
            message = delivery.message
            seen = Seen(
                message.message_sid,
                delivery.sequence,
                delivery.delivery_attempt,
                delivery.ack_deadline.ToNanoseconds(),
            )
            self._unsettled[delivery.ack_id] = seen
            self._ledger.deliver(message.sender, seen)

    async def _work(self) -> None:
        if self._manner is Manner.STEADY:
            return
        is_too_slow = self._manner is Manner.SLOW and self._random.random() < 0.05
        await asyncio.sleep(ACK_DEADLINE_SECONDS + 0.5 if is_too_slow else self._random.uniform(0, 0.3))
