"""MessageFeed.Subscribe: deliveries out, settlements in, each answered."""

from __future__ import annotations

import asyncio

import pytest
from aicc.mo.v1 import message_feed_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.service.feeding import (
    AT_ONCE,
    OK,
    STALE,
    UNKNOWN,
    Stream,
    configure,
    ingest,
    ingest_conversations,
    pull,
    pull_one,
    sids_of,
)
from tests.service.stubs import Client, connected

A_SECOND = Duration(seconds=1)


async def test_a_subscriber_receives_what_waits_and_what_comes(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1", sender="whatsapp:+1")
    stream = Stream(client)
    waiting = await stream.delivery()
    await ingest(client, "SM2", sender="whatsapp:+2")
    coming = await stream.delivery()
    stream.call.cancel()

    assert sids_of([waiting, coming]) == ["SM1", "SM2"]
    assert (waiting.delivery_attempt, waiting.sequence) == (1, 1)


async def test_the_next_message_of_a_conversation_comes_after_the_acknowledgement(client: Client) -> None:
    await client.create_channel()
    await ingest(client, *(f"SM{number}" for number in range(5)))
    stream = Stream(client)
    seen = []
    for _ in range(5):
        seen.append(await stream.delivery())
        stream.send(ack_ids=[seen[-1].ack_id])
    stream.end()

    assert sids_of(seen) == [f"SM{number}" for number in range(5)]
    assert await stream.results(1) == [(seen[-1].ack_id, OK)]


async def test_every_settlement_on_a_stream_is_answered(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await ingest(client, "SM1")
    stream = Stream(client)
    delivery = await stream.delivery()

    stream.send(
        ack_ids=["nonsense", "7.7"],
        extensions=[pb.AckDeadlineExtension(ack_id=delivery.ack_id, ack_deadline=Duration(seconds=100))],
    )
    assert await stream.results(3) == [("nonsense", UNKNOWN), ("7.7", UNKNOWN), (delivery.ack_id, OK)]
    stream.send(nacks=[pb.Nack(ack_id=delivery.ack_id)])
    again = await stream.delivery()
    stream.send(ack_ids=[delivery.ack_id, again.ack_id, again.ack_id])

    assert again.delivery_attempt == 2
    assert await stream.results(3) == [(delivery.ack_id, STALE), (again.ack_id, OK), (again.ack_id, STALE)]
    stream.call.cancel()


async def test_no_settlement_is_answered_twice_while_acks_keep_coming(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 300)
    stream = Stream(client, max_outstanding_messages=300)
    for delivery in await stream.deliveries(300):
        stream.send(ack_ids=[delivery.ack_id])
    stream.end()

    answered = [result.ack_id for response in await stream.rest() for result in response.ack_results]

    assert len(answered) == len(set(answered)) == 300


async def test_a_stream_is_sent_no_more_messages_than_its_credit(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 5)
    stream = Stream(client, max_outstanding_messages=2)
    first = await stream.deliveries(2)

    assert len(await pull(client)) == 3  # the rest is still there for others
    stream.send(ack_ids=[first[0].ack_id])
    assert await stream.results(1) == [(first[0].ack_id, OK)]
    await ingest(client, "SM5", sender="whatsapp:+5")
    assert sids_of([await stream.delivery()]) == ["SM5"]
    stream.call.cancel()


async def test_a_stream_is_sent_no_more_bytes_than_its_credit_but_for_the_last_message(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 5, body="x" * 1000)
    stream = Stream(client, max_outstanding_bytes=1500)
    first = await stream.deliveries(2)

    assert len(await pull(client)) == 3  # the rest is still there for others
    stream.send(ack_ids=[delivery.ack_id for delivery in first])
    await stream.results(2)
    await ingest(client, "SM5", sender="whatsapp:+5")
    assert sids_of([await stream.delivery()]) == ["SM5"]
    stream.call.cancel()


async def test_a_message_of_more_bytes_than_the_credit_still_comes(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1", body="x" * 1000)
    stream = Stream(client, max_outstanding_bytes=1)

    assert sids_of([await stream.delivery()]) == ["SM1"]
    stream.call.cancel()


async def test_an_acknowledgement_over_another_connection_gives_a_stream_room(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 2)
    stream = Stream(client, max_outstanding_messages=1)
    first = await stream.delivery()

    async with connected(client.address) as other:
        await other.feed.Acknowledge(pb.AcknowledgeRequest(destination="default", ack_ids=[first.ack_id]))

    assert sids_of([await stream.delivery()]) == ["SM1"]
    stream.call.cancel()


async def test_a_lease_that_runs_out_frees_the_credit_of_its_stream(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await ingest(client, "SM1")
    stream = Stream(client, max_outstanding_messages=1, ack_deadline=A_SECOND)
    first, again = await stream.deliveries(2)
    stream.call.cancel()

    assert (first.delivery_attempt, again.delivery_attempt) == (1, 2)


async def test_a_lease_that_was_extended_keeps_no_other_from_running_out(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await ingest(client, "SM1", sender="whatsapp:+1")
    stream = Stream(client, max_outstanding_messages=2, ack_deadline=Duration(seconds=500))
    extended = await stream.delivery()
    await ingest(client, "SM2", sender="whatsapp:+2")
    first = await stream.delivery()
    for delivery, seconds in ((extended, 600), (first, 1)):
        lease = pb.AckDeadlineExtension(ack_id=delivery.ack_id, ack_deadline=Duration(seconds=seconds))
        stream.send(extensions=[lease])
    again = await stream.delivery()
    stream.call.cancel()

    assert sids_of([first, again]) == ["SM2", "SM2"]
    assert again.delivery_attempt == 2


async def test_a_stream_that_asks_for_no_lease_has_that_of_the_destination(client: Client) -> None:
    await client.create_channel()
    await configure(
        client, pb.DestinationSettings(ack_deadline=A_SECOND, min_backoff=Duration(), max_backoff=Duration())
    )
    await ingest(client, "SM1")
    stream = Stream(client)
    first, again = await stream.deliveries(2)
    stream.call.cancel()

    assert (first.delivery_attempt, again.delivery_attempt) == (1, 2)


async def test_what_is_not_read_goes_to_another_uncounted(client: Client) -> None:
    await client.create_channel()
    for number in range(60):  # more than a connection takes that nobody reads from
        await ingest(client, f"SM{number}", sender=f"whatsapp:+{number}", body="x" * 250_000)
    stream = Stream(client, max_outstanding_bytes=64 * 1024 * 1024, ack_deadline=Duration(seconds=6))
    await stream.next()

    unread = await pull_one(client)
    stream.call.cancel()

    assert unread.delivery_attempt == 1


async def test_consumers_share_a_destination_without_overlap(client: Client) -> None:
    await client.create_channel()
    for sender in range(50):
        await ingest(client, *(f"SM{sender}-{number}" for number in range(10)), sender=f"whatsapp:+{sender}")
    seen: dict[str, list[int]] = {}
    finished = asyncio.Event()

    async def consume() -> None:
        stream = Stream(client, max_outstanding_messages=5)
        async for response in stream.call:
            for delivery in response.deliveries:
                seen.setdefault(delivery.message.sender, []).append(delivery.sequence)
            stream.send(ack_ids=[delivery.ack_id for delivery in response.deliveries])
            if sum(map(len, seen.values())) == 500:
                finished.set()

    consumers = [asyncio.create_task(consume()) for _ in range(5)]
    await asyncio.wait_for(finished.wait(), 30)
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)

    assert sum(map(len, seen.values())) == 500
    assert all(sequences == sorted(sequences) for sequences in seen.values())


@pytest.mark.parametrize("kind", ["consumers", "pulls"])
async def test_who_waits_is_seen_in_its_destination(client: Client, kind: str) -> None:
    await client.create_channel()
    waiting = (
        Stream(client).call
        if kind == "consumers"
        else client.feed.Pull(pb.PullRequest(destination="default", wait=Duration(seconds=30)))
    )
    while not (await client.feed.ListDestinations(pb.ListDestinationsRequest())).destinations[0].consumers:
        pass  # each look is a call of its own
    waiting.cancel()
    while (await client.feed.ListDestinations(pb.ListDestinationsRequest())).destinations[0].consumers:
        pass
