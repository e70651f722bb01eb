"""Consumers of the feed, spoken to like a person would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2 as message_pb
from google.protobuf.duration_pb2 import Duration

from tests.service.stubs import Client, mo_message

OK, STALE, UNKNOWN = message_pb.ACK_STATUS_OK, message_pb.ACK_STATUS_STALE, message_pb.ACK_STATUS_UNKNOWN
AT_ONCE = pb.DestinationSettings(min_backoff=Duration(), max_backoff=Duration())
"""No back-off."""
PATIENCE_SECONDS = 50


class Stream:
    """One subscription."""

    def __init__(self, client: Client, **first: Any) -> None:
        self._requests: asyncio.Queue[pb.SubscribeRequest | None] = asyncio.Queue()
        self.send(**{"destination": "default", **first})
        self.call = client.feed.Subscribe(self._iterate())
        self._responses = aiter(self.call)

    async def _iterate(self) -> AsyncIterator[pb.SubscribeRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    def send(self, **values: Any) -> None:
        self._requests.put_nowait(pb.SubscribeRequest(**values))

    def end(self) -> None:
        """End the requests."""
        self._requests.put_nowait(None)

    async def next(self) -> pb.SubscribeResponse:
        return await asyncio.wait_for(anext(self._responses), PATIENCE_SECONDS)

    async def deliveries(self, count: int) -> list[pb.Delivery]:
        found: list[pb.Delivery] = []
        while len(found) < count:
            found += (await self.next()).deliveries
        return found

    async def delivery(self) -> pb.Delivery:
        (found,) = await self.deliveries(1)
        return found

    async def results(self, count: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        while len(found) < count:
            found += [(result.ack_id, result.status) for result in (await self.next()).ack_results]
        return found

    async def rest(self) -> list[pb.SubscribeResponse]:
        """Return what comes until it ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [response async for response in self._responses]

    async def failure(self) -> grpc.StatusCode:
        """Return the status that it fails with."""
        try:
            await self.rest()
        except grpc.aio.AioRpcError as error:
            return error.code()
        raise AssertionError("the stream ended in order")


async def ingest(client: Client, *sids: str, **values: Any) -> None:
    """Store messages, of one conversation unless `sender` tells otherwise."""
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=[mo_message(sid, **values) for sid in sids]))


async def ingest_conversations(client: Client, count: int, **values: Any) -> None:
    """Store messages SM0, SM1, …, each of a conversation of its own."""
    messages = [mo_message(f"SM{number}", sender=f"whatsapp:+{number:07d}", **values) for number in range(count)]
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


async def pull(client: Client, **values: Any) -> list[pb.Delivery]:
    return list((await client.feed.Pull(pb.PullRequest(**{"destination": "default", **values}))).deliveries)


async def pull_one(client: Client, **values: Any) -> pb.Delivery:
    """Wait for a message."""
    (delivery,) = await pull(client, **{"wait": Duration(seconds=PATIENCE_SECONDS), "max_messages": 1, **values})
    return delivery


async def acknowledge(client: Client, *deliveries: pb.Delivery, destination: str = "default") -> list[int]:
    ack_ids = [delivery.ack_id for delivery in deliveries]
    request = pb.AcknowledgeRequest(destination=destination, ack_ids=ack_ids)
    return [result.status for result in (await client.feed.Acknowledge(request)).results]


async def give_back(client: Client, *deliveries: pb.Delivery, destination: str = "default") -> list[int]:
    ack_ids = [delivery.ack_id for delivery in deliveries]
    request = pb.ModifyAckDeadlineRequest(destination=destination, ack_ids=ack_ids)
    return [result.status for result in (await client.feed.ModifyAckDeadline(request)).results]


async def configure(client: Client, settings: pb.DestinationSettings, name: str = "default") -> pb.DestinationSettings:
    request = pb.UpdateDestinationRequest(name=name, settings=settings)
    return (await client.feed.UpdateDestination(request)).settings


async def find_destination(client: Client, name: str = "default") -> pb.Destination:
    response = await client.feed.ListDestinations(pb.ListDestinationsRequest())
    return next(destination for destination in response.destinations if destination.name == name)


def sids_of(deliveries: list[pb.Delivery]) -> list[str]:
    return [delivery.message.message_sid for delivery in deliveries]
