"""MessageFeed over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2 as message_pb
from google.protobuf.duration_pb2 import Duration

from service.__main__ import open_service
from service.settings import Settings
from tests.service.stubs import Client, connected, mo_message, violations_of

OK, STALE, UNKNOWN = message_pb.ACK_STATUS_OK, message_pb.ACK_STATUS_STALE, message_pb.ACK_STATUS_UNKNOWN


class Stream:
    """One subscription, spoken to like a person would."""

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
        self._requests.put_nowait(None)

    async def next(self) -> pb.SubscribeResponse:
        return await asyncio.wait_for(anext(self._responses), 10)

    async def deliveries(self, count: int) -> list[pb.Delivery]:
        found: list[pb.Delivery] = []
        while len(found) < count:
            found += (await self.next()).deliveries
        return found

    async def results(self, count: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        while len(found) < count:
            found += [(result.ack_id, result.status) for result in (await self.next()).ack_results]
        return found


async def ingest(client: Client, *sids: str, **values: Any) -> None:
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=[mo_message(sid, **values) for sid in sids]))


async def pull(client: Client, **values: Any) -> list[pb.Delivery]:
    return list((await client.feed.Pull(pb.PullRequest(**{"destination": "default", **values}))).deliveries)


async def test_a_subscriber_receives_what_waits_and_what_comes(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1", sender="whatsapp:+1")
    stream = Stream(client)
    (waiting,) = await stream.deliveries(1)
    await ingest(client, "SM2", sender="whatsapp:+2")
    (coming,) = await stream.deliveries(1)
    stream.call.cancel()

    assert [waiting.message.message_sid, coming.message.message_sid] == ["SM1", "SM2"]
    assert (waiting.delivery_attempt, waiting.sequence) == (1, 1)


async def test_the_next_message_of_a_conversation_comes_after_the_acknowledgement(client: Client) -> None:
    await client.create_channel()
    await ingest(client, *(f"SM{number}" for number in range(5)))
    stream = Stream(client)
    seen = []
    for _ in range(5):
        (delivery,) = await stream.deliveries(1)
        seen.append(delivery.message.message_sid)
        stream.send(ack_ids=[delivery.ack_id])
    stream.end()

    assert seen == [f"SM{number}" for number in range(5)]
    assert await stream.results(1) == [(delivery.ack_id, OK)]


async def test_every_settlement_on_a_stream_is_answered(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    stream = Stream(client)
    (delivery,) = await stream.deliveries(1)

    stream.send(
        ack_ids=["nonsense", "7.7"],
        extensions=[pb.AckDeadlineExtension(ack_id=delivery.ack_id, ack_deadline=Duration(seconds=100))],
    )
    assert await stream.results(3) == [("nonsense", UNKNOWN), ("7.7", UNKNOWN), (delivery.ack_id, OK)]
    stream.send(nacks=[pb.Nack(ack_id=delivery.ack_id)])
    (again,) = await stream.deliveries(1)
    stream.send(ack_ids=[delivery.ack_id, again.ack_id, again.ack_id])

    assert again.delivery_attempt == 2
    assert await stream.results(3) == [(delivery.ack_id, STALE), (again.ack_id, OK), (again.ack_id, STALE)]
    stream.call.cancel()


async def test_no_settlement_is_answered_twice_while_acks_keep_coming(client: Client) -> None:
    await client.create_channel()
    for number in range(300):
        await ingest(client, f"SM{number}", sender=f"whatsapp:+{number}")
    stream = Stream(client, max_outstanding_messages=300)
    for delivery in await stream.deliveries(300):
        stream.send(ack_ids=[delivery.ack_id])
    stream.end()

    answered = [result.ack_id async for response in stream.call for result in response.ack_results]

    assert len(answered) == len(set(answered)) == 300


async def test_a_stream_is_sent_no_more_than_its_credit(client: Client) -> None:
    await client.create_channel()
    for number in range(5):
        await ingest(client, f"SM{number}", sender=f"whatsapp:+{number}")
    stream = Stream(client, max_outstanding_messages=2)
    first = await stream.deliveries(2)

    assert len(await pull(client)) == 3  # the rest is still there for others
    stream.send(ack_ids=[first[0].ack_id])
    assert await stream.results(1) == [(first[0].ack_id, OK)]
    await ingest(client, "SM5", sender="whatsapp:+5")
    assert [delivery.message.message_sid for delivery in await stream.deliveries(1)] == ["SM5"]
    stream.call.cancel()


async def test_an_acknowledgement_over_another_connection_gives_a_stream_room(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1", sender="whatsapp:+1")
    await ingest(client, "SM2", sender="whatsapp:+2")
    stream = Stream(client, max_outstanding_messages=1)
    (first,) = await stream.deliveries(1)

    async with connected(client.address) as other:
        await other.feed.Acknowledge(pb.AcknowledgeRequest(destination="default", ack_ids=[first.ack_id]))

    assert [delivery.message.message_sid for delivery in await stream.deliveries(1)] == ["SM2"]
    stream.call.cancel()


async def test_a_stream_of_few_bytes_gets_one_message_at_a_time(client: Client) -> None:
    await client.create_channel()
    for number in range(3):
        await ingest(client, f"SM{number}", sender=f"whatsapp:+{number}", body="x" * 1000)
    stream = Stream(client, max_outstanding_bytes=500)
    seen = []
    for _ in range(3):
        (delivery,) = (await stream.next()).deliveries or (await stream.next()).deliveries
        seen.append(delivery.message.message_sid)
        stream.send(ack_ids=[delivery.ack_id])
    stream.call.cancel()

    assert seen == ["SM0", "SM1", "SM2"]


async def test_what_a_dead_consumer_held_comes_to_another_after_the_lease(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    dying = Stream(client, ack_deadline=Duration(seconds=1))
    await dying.deliveries(1)
    dying.call.cancel()

    (again,) = await pull(client, wait=Duration(seconds=10))

    assert (again.message.message_sid, again.delivery_attempt) == ("SM1", 2)


async def test_a_lease_that_runs_out_frees_the_credit_of_its_stream(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    stream = Stream(client, max_outstanding_messages=1, ack_deadline=Duration(seconds=1))
    first, again = await stream.deliveries(2)
    stream.call.cancel()

    assert (first.delivery_attempt, again.delivery_attempt) == (1, 2)


async def test_pulling_waits_for_the_first_message(client: Client) -> None:
    await client.create_channel()
    waiting = asyncio.create_task(pull(client, wait=Duration(seconds=10)))
    while not (await client.feed.ListDestinations(pb.ListDestinationsRequest())).destinations[0].consumers:
        pass  # each look is a call of its own
    await ingest(client, "SM1")

    assert [delivery.message.message_sid for delivery in await waiting] == ["SM1"]


async def test_pulling_where_nothing_is_finds_nothing(client: Client) -> None:
    assert await pull(client, destination="nowhere") == []


async def test_a_delivery_that_is_given_back_comes_again_at_once(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    (first,) = await pull(client)

    response = await client.feed.ModifyAckDeadline(
        pb.ModifyAckDeadlineRequest(destination="default", ack_ids=[first.ack_id])
    )
    (again,) = await pull(client)

    assert [result.status for result in response.results] == [OK]
    assert again.delivery_attempt == 2


async def test_consumers_share_a_destination_without_overlap(client: Client) -> None:
    await client.create_channel()
    await client.ingest.IngestBatch(
        ingest_pb.IngestBatchRequest(
            messages=[mo_message(f"SM{number}", sender=f"whatsapp:+{number % 50}") for number in range(500)]
        )
    )
    seen: dict[str, list[int]] = {}
    total = 0
    finished = asyncio.Event()

    async def consume() -> None:
        nonlocal total
        stream = Stream(client, max_outstanding_messages=5)
        async for response in stream.call:
            for delivery in response.deliveries:
                seen.setdefault(delivery.message.sender, []).append(delivery.sequence)
                total += 1
            stream.send(ack_ids=[delivery.ack_id for delivery in response.deliveries])
            if total == 500:
                finished.set()

    consumers = [asyncio.create_task(consume()) for _ in range(5)]
    await asyncio.wait_for(finished.wait(), 30)
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)

    assert sum(map(len, seen.values())) == 500
    assert all(sequences == sorted(sequences) for sequences in seen.values())


async def test_a_service_that_stops_ends_its_streams_as_unavailable(tmp_path: Path) -> None:
    settings = Settings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", store=tmp_path / "mo.db")
    async with AsyncExitStack() as stack:
        async with open_service(settings) as running:
            client = await stack.enter_async_context(connected(running.listen))
            await client.create_channel()
            await ingest(client, "SM1")
            stream = Stream(client)
            await stream.deliveries(1)
            ended = asyncio.create_task(stream.next())

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ended
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


Call = Callable[[Client], Awaitable[Any]]


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        pytest.param(
            lambda client: Stream(
                client,
                destination="a b",
                max_outstanding_messages=10_001,
                max_outstanding_bytes=-1,
                ack_deadline=Duration(seconds=601),
            ).next(),
            ["ack_deadline", "destination", "max_outstanding_bytes", "max_outstanding_messages"],
            id="a subscription",
        ),
        pytest.param(
            lambda client: Stream(client, nacks=[pb.Nack(ack_id="1.1", delay=Duration(seconds=601))]).next(),
            ["nacks.delay"],
            id="a nack on a stream",
        ),
        pytest.param(
            lambda client: pull(client, destination="", max_messages=1001, wait=Duration(seconds=61)),
            ["destination", "max_messages", "wait"],
            id="a pull",
        ),
        pytest.param(
            lambda client: client.feed.Acknowledge(pb.AcknowledgeRequest()), ["ack_ids", "destination"], id="an ack"
        ),
        pytest.param(
            lambda client: client.feed.ModifyAckDeadline(
                pb.ModifyAckDeadlineRequest(destination="d", ack_ids=["x"], ack_deadline=Duration(seconds=-1))
            ),
            ["ack_deadline"],
            id="an extension",
        ),
    ],
)
async def test_a_malformed_request_names_every_bad_field(client: Client, call: Call, fields: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(client)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == fields
