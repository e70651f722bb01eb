"""Conversations that stay with a destination, over a real connection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as pb
from aicc.mo.v1 import message_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.service.stubs import Client, mo_message, violations_of

SENDER = "whatsapp:+447700900123"


async def ingest(client: Client, *messages: message_pb2.MoMessage) -> list[pb.IngestResult]:
    return list((await client.ingest.IngestBatch(pb.IngestBatchRequest(messages=messages))).results)


async def assign(client: Client, destination: str, **values: Any) -> pb.AssignConversationResponse:
    request = pb.AssignConversationRequest(
        **{"channel_config_id": "C1", "sender": SENDER, "destination": destination, **values}
    )
    return await client.ingest.AssignConversation(request)


async def pull(client: Client, destination: str) -> list[feed_pb.Delivery]:
    return list((await client.feed.Pull(feed_pb.PullRequest(destination=destination))).deliveries)


async def explain(client: Client, **values: Any) -> pb.ExplainRouteResponse:
    return await client.ingest.ExplainRoute(pb.ExplainRouteRequest(message=mo_message("", **values)))


async def test_what_waits_and_what_comes_follows_an_assignment(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"))

    assigned = await assign(client, "agents", ttl=Duration(seconds=60))
    await ingest(client, mo_message("SM2"), mo_message("other", sender="whatsapp:+1"))

    assert assigned.moved == 1
    assert assigned.HasField("expire_time")
    (delivery,) = await pull(client, "agents")
    assert delivery.message.message_sid == "SM1"
    assert [each.message.message_sid for each in await pull(client, "default")] == ["other"]


async def test_a_bot_hands_over_and_acknowledges_in_one_call(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"), mo_message("SM2"))
    (delivery,) = await pull(client, "default")

    assigned = await assign(client, "agents", ack_id=delivery.ack_id, ack_destination="default")

    assert assigned.ack_status == message_pb2.ACK_STATUS_OK
    assert [each.message.message_sid for each in await pull(client, "agents")] == ["SM2"]


async def test_an_ack_id_that_is_none_does_not_stop_an_assignment(client: Client) -> None:
    await client.create_channel()

    assigned = await assign(client, "agents", ack_id="nonsense", ack_destination="default")

    assert assigned.ack_status == message_pb2.ACK_STATUS_UNKNOWN
    assert (await explain(client)).destinations == ["agents"]


async def test_the_explanation_shows_the_assignment_until_it_ends(client: Client) -> None:
    await client.create_channel()
    route = directory_pb.Route(route_id="all", destinations=["bot", "archive"])
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=[route]))
    await assign(client, "agents")

    assigned = await explain(client)
    elsewhere = await explain(client, sender="whatsapp:+1")
    await assign(client, "")
    ended = await explain(client)

    assert (assigned.route_id, list(assigned.destinations)) == ("all", ["agents", "archive"])
    assert assigned.assignment.destination == "agents"
    assert assigned.assignment.reason == message_pb2.ASSIGNMENT_REASON_ASSIGNED
    seconds = assigned.assignment.expire_time.seconds - assigned.assignment.assign_time.seconds
    assert seconds == 24 * 3600
    for explained in (elsewhere, ended):
        assert list(explained.destinations) == ["bot", "archive"]
        assert not explained.HasField("assignment")


async def test_a_conversation_stays_where_it_was_routed_while_its_channel_has_affinity(client: Client) -> None:
    await client.create_channel(affinity=Duration(seconds=600))
    route = directory_pb.Route(
        route_id="help", match=directory_pb.RouteMatch(keywords=["help"]), destinations=["agents"]
    )
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=[route]))
    await ingest(client, mo_message("SM1", body="help"))

    explained = await explain(client, body="thanks")

    assert (explained.route_id, list(explained.destinations)) == ("", ["agents"])
    assert explained.assignment.reason == message_pb2.ASSIGNMENT_REASON_AFFINITY


async def test_a_message_that_would_be_held_is_explained_without_an_assignment(client: Client) -> None:
    await client.create_channel(destination=None)
    await assign(client, "agents")

    explained = await explain(client)

    assert explained.hold_reason == message_pb2.HOLD_REASON_UNROUTED
    assert not explained.HasField("assignment")


async def test_held_messages_are_released_to_where_their_conversation_stays(client: Client) -> None:
    await client.create_channel(state=directory_pb.CHANNEL_STATE_PAUSED)
    await ingest(client, mo_message("SM1"), mo_message("other", sender="whatsapp:+1"))
    await assign(client, "agents")

    selection = archive_pb.HeldSelection(channel_config_id="C1")
    released = await client.archive.ReleaseHeld(archive_pb.ReleaseHeldRequest(selection=selection))

    assert released.released == 2
    assert [each.message.message_sid for each in await pull(client, "agents")] == ["SM1"]
    assert [each.message.message_sid for each in await pull(client, "default")] == ["other"]


async def test_every_field_that_is_wrong_is_named_at_once(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await assign(
            client,
            "the agents",
            channel_config_id="a/b",
            sender="\n",
            ttl=Duration(seconds=2_592_001),
            ack_id="1.1",
        )

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == [
        "ack_destination",
        "channel_config_id",
        "destination",
        "sender",
        "ttl",
    ]


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_conversation_of_a_channel_that_is_not_there_is_not_found(client: Client, *, is_deleted: bool) -> None:
    if is_deleted:
        await client.create_channel()
        await client.directory.DeleteChannel(directory_pb.DeleteChannelRequest(channel_config_id="C1"))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await assign(client, "agents")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_was_received_before_its_sender_was_erased_is_dropped_and_said_to_be(client: Client) -> None:
    await client.create_channel()
    await client.archive.EraseSender(archive_pb.EraseSenderRequest(channel_config_id="C1", sender=SENDER))
    before, after = Timestamp(seconds=1_700_000_000), Timestamp(seconds=4_000_000_000)

    results = await ingest(client, mo_message("SM1", receive_time=before), mo_message("SM2", receive_time=after))

    assert [result.outcome for result in results] == [pb.INGEST_OUTCOME_ERASED, pb.INGEST_OUTCOME_ACCEPTED]
    assert results[0].sequence == 0


@pytest.mark.parametrize("seconds", [-1, 253_402_300_800, 2**62])
async def test_a_time_that_no_store_can_keep_is_rejected_and_fails_no_other(client: Client, seconds: int) -> None:
    await client.create_channel()

    results = await ingest(client, mo_message("SM1", receive_time=Timestamp(seconds=seconds)), mo_message("SM2"))

    assert [violation.field for violation in results[0].violations] == ["receive_time"]
    assert results[1].outcome == pb.INGEST_OUTCOME_ACCEPTED
