"""MessageIngest over a real connection."""

from __future__ import annotations

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_ingest_pb2 as pb
from aicc.mo.v1 import message_pb2

from tests.service.stubs import Client, mo_message, violations_of


async def ingest(client: Client, *messages: message_pb2.MoMessage) -> list[pb.IngestResult]:
    return list((await client.ingest.IngestBatch(pb.IngestBatchRequest(messages=messages))).results)


async def test_each_item_of_a_batch_has_an_outcome_of_its_own(client: Client) -> None:
    await client.create_channel("C1")
    await client.create_channel("held", destination=None)

    results = await ingest(
        client,
        mo_message("SM1"),
        mo_message("SM1"),
        mo_message("SM2", channel_config_id="held"),
        mo_message("SM3", channel_config_id="nowhere"),
        mo_message("SM\n4", sender="", receiver="x" * 257),
        mo_message("SM5"),
    )

    assert [pb.IngestOutcome.Name(result.outcome).removeprefix("INGEST_OUTCOME_") for result in results] == [
        "ACCEPTED",
        "DUPLICATE",
        "HELD",
        "REJECTED",
        "REJECTED",
        "ACCEPTED",
    ]
    assert results[1].sequence == results[0].sequence
    assert results[2].hold_reason == message_pb2.HOLD_REASON_UNROUTED
    assert [violation.field for violation in results[3].violations] == ["channel_config_id"]
    assert [violation.field for violation in results[4].violations] == ["message_sid", "sender", "receiver"]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_without_items_or_with_too_many_is_an_invalid_argument(client: Client, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ingest(client, *[mo_message(f"SM{number}") for number in range(count)])

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations_of(caught.value)) == ["messages"]


async def test_a_single_message_that_is_invalid_names_every_field(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ingest.Ingest(pb.IngestRequest(message=mo_message("", sender="\x00", channel_config_id="a b")))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations_of(caught.value)) == ["message.channel_config_id", "message.message_sid", "message.sender"]


async def test_a_single_message_is_stored_with_all_that_came_and_stamped(client: Client) -> None:
    await client.create_channel()
    sent = mo_message("SM1", body="a\0😀", other_parameters=[message_pb2.Parameter(name="New", value="")])

    response = await client.ingest.Ingest(pb.IngestRequest(message=sent))

    assert response.result.outcome == pb.INGEST_OUTCOME_ACCEPTED
    found = await client.archive.GetMessage(
        archive_pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1", include_text=True)
    )
    stored = found.message.message
    assert stored.HasField("receive_time")
    stored.ClearField("receive_time")
    assert stored == sent


async def test_the_archive_shows_no_word_of_a_person_unless_asked(client: Client) -> None:
    await client.create_channel()
    message = mo_message(
        "SM1",
        body="secret words",
        profile_name="secret name",
        media=[message_pb2.Media(url="https://secret")],
        location=message_pb2.Location(address="secret street"),
        button=message_pb2.Button(text="secret button"),
        referral=message_pb2.Referral(body="secret ad"),
        other_parameters=[message_pb2.Parameter(name="x", value="secret parameter")],
    )
    await ingest(client, message)

    one = await client.archive.GetMessage(archive_pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1"))
    many = await client.archive.ListMessages(archive_pb.ListMessagesRequest())

    assert "secret" not in str(one) + str(many)
    assert many.messages[0].message.sender == message.sender


async def test_routes_take_effect_with_the_next_message(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1", body="help"))
    route = directory_pb.Route(
        route_id="help", match=directory_pb.RouteMatch(keywords=["help"]), destinations=["agents", "bot"]
    )
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=[route]))
    await ingest(client, mo_message("SM2", body="help"))

    listed = await client.archive.ListMessages(archive_pb.ListMessagesRequest(channel_config_id="C1"))

    went = [
        (stored.route_id, stored.route_revision, [delivery.destination for delivery in stored.deliveries])
        for stored in listed.messages
    ]
    assert went == [("help", 1, ["agents", "bot"]), ("", 0, ["default"])]


async def test_explain_tells_why_earlier_routes_do_not_match(client: Client) -> None:
    await client.create_channel()
    routes = [
        directory_pb.Route(
            route_id="vip",
            match=directory_pb.RouteMatch(sender_prefixes=["+49"], is_reply=True),
            destinations=["agents"],
        ),
        directory_pb.Route(route_id="rest", destinations=["bot"]),
    ]
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=routes))

    explained = await client.ingest.ExplainRoute(pb.ExplainRouteRequest(message=mo_message("")))

    assert (explained.route_id, list(explained.destinations), explained.route_revision) == ("rest", ["bot"], 1)
    assert [(item.route_id, item.matched, len(item.mismatches)) for item in explained.explanations] == [
        ("vip", False, 2),
        ("rest", True, 0),
    ]


async def test_explaining_for_a_channel_that_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ingest.ExplainRoute(pb.ExplainRouteRequest(message=mo_message("", channel_config_id="C9")))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_message_for_a_channel_that_was_deleted_meanwhile_is_held(client: Client) -> None:
    await client.create_channel()
    await client.directory.DeleteChannel(directory_pb.DeleteChannelRequest(channel_config_id="C1"))

    (result,) = await ingest(client, mo_message("SM1"))

    assert result.hold_reason == message_pb2.HOLD_REASON_CHANNEL_DELETED
