"""A consumer that prints what it gets and never acknowledges: its test kills it. Argument: the service's address."""

from __future__ import annotations

import asyncio
import sys

import grpc
from aicc.mo.v1.message_feed_pb2 import SubscribeRequest
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub


async def hold(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = MessageFeedStub(channel).Subscribe()
        await call.write(SubscribeRequest(destination="default"))
        async for response in call:
            for delivery in response.deliveries:
                print(delivery.message.message_sid, flush=True)


asyncio.run(hold(sys.argv[1]))
