"""MessageFeed over a real connection: destinations, and how their settings change what they deliver."""

from __future__ import annotations

import math

import grpc
import pytest
from aicc.mo.v1 import message_feed_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.service.feeding import (
    AT_ONCE,
    Stream,
    acknowledge,
    configure,
    find_destination,
    give_back,
    ingest,
    ingest_conversations,
    pull,
    pull_one,
)
from tests.service.stubs import Client, violations_of

DEFAULTS = pb.DestinationSettings(
    ack_deadline=Duration(seconds=60),
    max_attempts=10,
    min_backoff=Duration(nanos=100_000_000),
    max_backoff=Duration(seconds=60),
    backoff_jitter=0.2,
    is_ordered=True,
    retention=Duration(seconds=30 * 86_400),
)


async def test_a_destination_shows_what_waits_and_how_it_is_used(client: Client) -> None:
    await client.create_channel()
    await ingest_conversations(client, 4)
    stream = Stream(client, max_outstanding_messages=2)
    done, _ = await stream.deliveries(2)
    stream.send(ack_ids=[done.ack_id])
    await stream.deliveries(1)
    found = await find_destination(client)
    stream.call.cancel()

    assert (found.backlog, found.leased, found.consumers, found.dead_letters) == (3, 2, 1, 0)
    assert [found.in_rate, found.out_rate] == pytest.approx([4 / 60, 1 / 60])
    assert found.HasField("oldest_commit_time")
    assert found.settings == DEFAULTS


async def test_a_destination_where_nothing_waits_has_no_oldest_message(client: Client) -> None:
    await client.create_channel()

    assert not (await find_destination(client)).HasField("oldest_commit_time")


async def test_an_update_changes_what_it_names_and_a_repeat_nothing(client: Client) -> None:
    change = pb.DestinationSettings(max_attempts=3, is_ordered=False, min_backoff=Duration())
    wanted = pb.DestinationSettings.FromString(DEFAULTS.SerializeToString())
    wanted.MergeFrom(change)
    wanted.min_backoff.Clear()

    assert await configure(client, change, name="desk") == wanted
    assert await configure(client, change, name="desk") == wanted
    assert (await find_destination(client, "desk")).settings == wanted


async def test_an_update_keeps_what_earlier_ones_changed(client: Client) -> None:
    await configure(client, pb.DestinationSettings(max_attempts=3), name="desk")
    settings = await configure(client, pb.DestinationSettings(backoff_jitter=0), name="desk")

    assert (settings.max_attempts, settings.backoff_jitter) == (3, 0)


async def test_an_update_of_nothing_makes_the_destination_with_its_defaults(client: Client) -> None:
    assert await configure(client, pb.DestinationSettings(), name="desk") == DEFAULTS
    assert (await find_destination(client, "desk")).backlog == 0


@pytest.mark.parametrize(
    ("name", "settings", "fields"),
    [
        pytest.param("a b", pb.DestinationSettings(max_attempts=0), ["name", "settings.max_attempts"], id="too little"),
        pytest.param(
            "desk",
            pb.DestinationSettings(
                ack_deadline=Duration(seconds=601), max_attempts=101, backoff_jitter=1.1, retention=Duration(seconds=60)
            ),
            ["settings.ack_deadline", "settings.backoff_jitter", "settings.max_attempts", "settings.retention"],
            id="too much",
        ),
        pytest.param(
            "desk", pb.DestinationSettings(max_backoff=Duration()), ["settings.min_backoff"], id="least above most"
        ),
        pytest.param(
            "desk", pb.DestinationSettings(backoff_jitter=math.nan), ["settings.backoff_jitter"], id="no number"
        ),
    ],
)
async def test_an_update_that_can_not_be_names_everything_that_is_wrong_and_changes_nothing(
    client: Client, name: str, settings: pb.DestinationSettings, fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await configure(client, settings, name=name)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == fields
    assert not (await client.feed.ListDestinations(pb.ListDestinationsRequest())).destinations


async def test_an_unordered_destination_does_not_wait_within_a_conversation(client: Client) -> None:
    await client.create_channel()
    await configure(client, pb.DestinationSettings(is_ordered=False))
    await ingest(client, "SM1", "SM2", "SM3")

    assert len(await pull(client)) == 3


async def test_after_the_last_attempt_a_message_is_dead_lettered_and_its_conversation_goes_on(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await configure(client, pb.DestinationSettings(max_attempts=2))
    await ingest(client, "SM1", "SM2")
    for attempt in (1, 2):
        delivery = await pull_one(client)
        assert (delivery.message.message_sid, delivery.delivery_attempt) == ("SM1", attempt)
        await give_back(client, delivery)

    assert (await pull_one(client)).message.message_sid == "SM2"
    assert (await find_destination(client)).dead_letters == 1


async def test_a_pull_that_asks_for_no_lease_has_that_of_the_destination(client: Client) -> None:
    await client.create_channel()
    await configure(client, AT_ONCE)
    await configure(client, pb.DestinationSettings(ack_deadline=Duration(seconds=1)))
    await ingest(client, "SM1")
    first = await pull_one(client)

    assert (await pull_one(client)).delivery_attempt == 2
    assert await acknowledge(client, first) != []
