"""MessageFeed's unary calls over a real connection: Pull, Acknowledge, ModifyAckDeadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from aicc.mo.v1 import message_feed_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.service.feeding import (
    AT_ONCE,
    OK,
    STALE,
    Stream,
    acknowledge,
    configure,
    find_destination,
    give_back,
    ingest,
    ingest_conversations,
    pull,
    pull_one,
    sids_of,
)
from tests.service.stubs import Client, connected, violations_of


async def test_pulling_waits_for_the_first_message(client: Client) -> None:
    await client.create_channel()
    waiting = asyncio.create_task(pull(client, wait=Duration(seconds=50)))
    while not (await find_destination(client)).consumers:
        pass  # each look is a call of its own
    await ingest(client, "SM1")

    assert sids_of(await waiting) == ["SM1"]


async def test_pulling_where_nothing_is_finds_nothing(client: Client) -> None:
    assert await pull(client, destination="nowhere") == []


async def test_pulling_takes_no_more_than_it_asks_for(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 3)

    assert len(await pull(client, max_messages=2)) == 2
    assert len(await pull(client)) == 1


async def test_what_was_pulled_comes_again_when_its_lease_is_over(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    await pull_one(client, ack_deadline=Duration(seconds=1))

    assert (await pull_one(client)).delivery_attempt == 2


async def test_a_waiting_pull_that_is_cancelled_takes_nothing(client: Client) -> None:
    await client.create_channel()
    waiting = client.feed.Pull(pb.PullRequest(destination="default", wait=Duration(seconds=30)))
    while not (await find_destination(client)).consumers:
        pass
    waiting.cancel()
    await ingest(client, "SM1")

    assert (await pull_one(client)).delivery_attempt == 1


async def test_a_delivery_is_settled_from_any_connection_and_once(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    delivery = await pull_one(client)

    async with connected(client.address) as other:
        assert await acknowledge(other, delivery, delivery) == [OK, STALE]
    assert (await find_destination(client)).backlog == 0


async def test_a_delivery_that_is_given_back_does_not_come_before_the_back_off(client: Client) -> None:
    await client.create_channel()
    long = Duration(seconds=600)
    await configure(client, pb.DestinationSettings(min_backoff=long, max_backoff=long))
    await ingest(client, "SM1")

    assert await give_back(client, await pull_one(client)) == [OK]
    assert await pull(client) == []


async def test_a_delivery_that_is_given_back_comes_again_after_the_back_off(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    first = await pull_one(client)

    assert await give_back(client, first) == [OK]
    again = await pull_one(client)
    assert again.delivery_attempt == 2
    assert await acknowledge(client, first, again) == [STALE, OK]


async def test_a_lease_ends_when_it_was_last_asked_to(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await ingest_conversations(client, 2)
    shorter, _ = await pull(client, ack_deadline=Duration(seconds=600))
    request = pb.ModifyAckDeadlineRequest(
        destination="default", ack_ids=[shorter.ack_id], ack_deadline=Duration(seconds=1)
    )
    assert [result.status for result in (await client.feed.ModifyAckDeadline(request)).results] == [OK]

    assert sids_of([await pull_one(client)]) == sids_of([shorter])


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
            lambda client: Stream(client, extensions=[pb.AckDeadlineExtension(ack_id="1.1")]).next(),
            ["extensions.ack_deadline"],
            id="an extension on a stream",
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
