"""What becomes of what a consumer has when its stream ends, in order or not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from aicc.mo.v1 import message_feed_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from service.__main__ import open_service
from service.settings import Settings
from tests.service.feeding import (
    OK,
    Stream,
    ingest,
    ingest_conversations,
    pull,
    pull_one,
)
from tests.service.stubs import Client, connected, serving


async def test_when_the_requests_end_the_rest_goes_to_another_at_once_and_uncounted(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 2)
    stream = Stream(client)
    done, undone = await stream.deliveries(2)
    other = Stream(client)
    stream.send(ack_ids=[done.ack_id])
    stream.end()

    results = [(result.ack_id, result.status) for response in await stream.rest() for result in response.ack_results]
    again = await other.delivery()
    other.call.cancel()

    assert results == [(done.ack_id, OK)]
    assert (again.message, again.delivery_attempt) == (undone.message, 1)


async def test_who_ends_with_something_out_is_sent_one_more_response_which_a_broken_stream_cannot_take(
    client: Client,
) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    stream = Stream(client)
    await stream.delivery()
    stream.end()

    assert await stream.rest() == [pb.SubscribeResponse()]


async def test_who_ends_with_nothing_out_is_sent_nothing_more(client: Client) -> None:
    await client.create_channel()
    stream = Stream(client)
    stream.end()

    assert await stream.rest() == []


async def test_a_stream_that_is_cancelled_has_failed_to_deliver(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    stream = Stream(client)
    await stream.delivery()
    stream.call.cancel()

    assert (await pull_one(client)).delivery_attempt == 2


async def test_a_stream_that_asks_for_the_impossible_has_failed_to_deliver(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    stream = Stream(client)
    delivery = await stream.delivery()
    stream.send(nacks=[pb.Nack(ack_id=delivery.ack_id, delay=Duration(seconds=601))])

    assert await stream.failure() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await pull_one(client)).delivery_attempt == 2


async def test_a_consumer_that_is_killed_has_failed_to_deliver(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, Path(__file__).parent / "consumer_child.py", client.address), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"SM1\n"
    os.kill(child.pid, signal.SIGKILL)
    again = await pull_one(client)
    await child.wait()

    assert (again.message.message_sid, again.delivery_attempt) == ("SM1", 2)


async def test_a_service_that_stops_ends_its_streams_as_unavailable_and_uncounted(tmp_path: Path) -> None:
    settings = Settings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", store=tmp_path / "mo.db")
    async with AsyncExitStack() as stack:
        async with open_service(settings) as running:
            client = await stack.enter_async_context(connected(running.listen))
            await client.create_channel()
            await ingest(client, "SM1")
            stream = Stream(client)
            await stream.delivery()
        assert await stream.failure() is grpc.StatusCode.UNAVAILABLE
    async with serving(tmp_path) as client:
        (again,) = await pull(client)

    assert (again.message.message_sid, again.delivery_attempt) == ("SM1", 1)
