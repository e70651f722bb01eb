"""Holds, clashes, quarantine and shim reports over a real connection."""

from __future__ import annotations

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2

from tests.service.stubs import Client, mo_message, violations_of


async def ingest(client: Client, *messages: message_pb2.MoMessage, **values: bool) -> list[ingest_pb.IngestResult]:
    request = ingest_pb.IngestBatchRequest(messages=messages, **values)
    return list((await client.ingest.IngestBatch(request)).results)


async def pull(client: Client, destination: str = "default") -> list[str]:
    response = await client.feed.Pull(feed_pb.PullRequest(destination=destination))
    return [delivery.message.message_sid for delivery in response.deliveries]


EVERYTHING = pb.HeldSelection(is_everything=True)


async def test_a_message_to_another_number_is_held_and_never_refused(client: Client) -> None:
    await client.create_channel(number="+14155238886")

    right, wrong = await ingest(client, mo_message("SM1"), mo_message("SM2", receiver="whatsapp:+15550000000"))

    assert right.outcome == ingest_pb.INGEST_OUTCOME_ACCEPTED
    assert wrong.hold_reason == message_pb2.HOLD_REASON_RECIPIENT_MISMATCH


async def test_what_a_paused_channel_held_is_released_by_todays_routes(client: Client) -> None:
    await client.create_channel(state=directory_pb.CHANNEL_STATE_PAUSED)
    await ingest(client, mo_message("SM1"))
    route = directory_pb.Route(route_id="all", destinations=["bot"])
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=[route]))

    response = await client.archive.ReleaseHeld(pb.ReleaseHeldRequest(selection=EVERYTHING))

    assert (response.released, response.still_held, response.next_page_token) == (1, 0, "")
    assert await pull(client, "bot") == ["SM1"]
    found = await client.archive.GetMessage(pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1"))
    assert (found.message.route_id, found.message.state) == ("all", pb.MESSAGE_STATE_PENDING)


async def test_what_no_route_wants_stays_held_unless_a_destination_is_given(client: Client) -> None:
    await client.create_channel(destination=None)
    await ingest(client, mo_message("SM1"))

    by_routes = await client.archive.ReleaseHeld(pb.ReleaseHeldRequest(selection=EVERYTHING))
    by_hand = await client.archive.ReleaseHeld(pb.ReleaseHeldRequest(selection=EVERYTHING, destination="desk"))

    assert (by_routes.released, by_routes.still_held) == (0, 1)
    assert by_hand.released == 1
    assert await pull(client, "desk") == ["SM1"]


async def test_a_channel_is_deleted_once_its_held_messages_are_discarded(client: Client) -> None:
    await client.create_channel(destination=None)
    await ingest(client, mo_message("SM1"))
    key = message_pb2.MessageKey(channel_config_id="C1", message_sid="SM1")

    response = await client.archive.DiscardHeld(pb.DiscardHeldRequest(selection=pb.HeldSelection(keys=[key])))
    await client.directory.DeleteChannel(directory_pb.DeleteChannelRequest(channel_config_id="C1"))

    assert response.discarded == 1


async def test_a_selection_of_nothing_is_an_invalid_argument(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.archive.DiscardHeld(pb.DiscardHeldRequest())

    assert list(violations_of(caught.value)) == ["selection"]


@pytest.mark.parametrize(
    "difference",
    [
        {"sender": "whatsapp:+1"},
        {"receiver": "whatsapp:+1"},
        {"message_type": message_pb2.MESSAGE_TYPE_IMAGE},
        {"body": "another"},
        {"media": [message_pb2.Media(url="https://x")]},
    ],
    ids=lambda difference: next(iter(difference)),
)
async def test_another_message_with_the_same_id_is_kept_aside_and_shown(
    client: Client, difference: dict[str, object]
) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"))

    (result,) = await ingest(client, mo_message("SM1", **difference))

    assert result.outcome == ingest_pb.INGEST_OUTCOME_DUPLICATE
    request = pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1", include_text=True)
    found = (await client.archive.GetMessage(request)).message
    assert found.message.body == "Hello"
    assert len(found.clashes) == 1
    assert (await client.archive.GetSummary(pb.GetSummaryRequest())).channels[0].clashes == 1
    assert len(await pull(client)) == 1


async def test_a_plain_repeat_is_no_clash(client: Client) -> None:
    await client.create_channel()
    fallback = message_pb2.Parameter(name="ErrorCode", value="11200")

    await ingest(client, mo_message("SM1"), mo_message("SM1", other_parameters=[fallback]), mo_message("SM1"))

    assert (await client.archive.GetSummary(pb.GetSummaryRequest())).channels[0].clashes == 0


async def test_a_quarantined_request_is_shown_without_text_and_settled_by_its_retry(client: Client) -> None:
    await client.create_channel()
    request = ingest_pb.QuarantinedRequest(
        entry_id="q1",
        channel_config_id="C1",
        integrator="twilio",
        headers=[message_pb2.Parameter(name="User-Agent", value="secret agent")],
        body=b"Body=secret",
        reasons=[message_pb2.FieldViolation(field="From", description="is missing")],
    )
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[request]))

    listed = await client.archive.ListQuarantined(pb.ListQuarantinedRequest())
    whole = await client.archive.GetQuarantined(pb.GetQuarantinedRequest(entry_id="q1", include_text=True))
    await client.ingest.Ingest(ingest_pb.IngestRequest(message=mo_message("SM1"), quarantine_entry_id="q1"))

    assert "secret" not in str(listed)
    assert [entry.entry_id for entry in listed.requests] == ["q1"]
    assert whole.request == request
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.archive.GetQuarantined(pb.GetQuarantinedRequest(entry_id="q1"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_discarded_request_is_gone(client: Client) -> None:
    request = ingest_pb.QuarantinedRequest(entry_id="q1", channel_config_id="C1", is_accepted=True)
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[request]))

    response = await client.archive.DiscardQuarantined(pb.DiscardQuarantinedRequest(entry_ids=["q1", "q2"]))

    assert response.discarded == 1
    assert not (await client.archive.ListQuarantined(pb.ListQuarantinedRequest())).requests


async def test_a_malformed_quarantine_request_names_every_bad_field(client: Client) -> None:
    bad = ingest_pb.QuarantinedRequest(entry_id="a b")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[bad]))

    assert list(violations_of(caught.value)) == ["requests[0].entry_id", "requests[0].channel_config_id"]


async def test_messages_out_of_a_journal_are_counted_apart(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"))
    await ingest(client, mo_message("SM1"), mo_message("SM2"), is_from_journal=True)

    (activity,) = (await client.archive.GetSummary(pb.GetSummaryRequest())).channels

    assert (activity.messages, activity.recovered) == (2, 1)
    assert activity.HasField("last_message_time")


async def test_the_last_report_of_each_shim_is_remembered(client: Client) -> None:
    for host, waiting in (("b", 1), ("a", 2), ("b", 3)):
        report = directory_pb.ShimReport(host_id=host, journal_messages=waiting)
        await client.directory.ReportShim(directory_pb.ReportShimRequest(report=report))

    shims = (await client.directory.ListShims(directory_pb.ListShimsRequest())).shims

    assert [(shim.host_id, shim.journal_messages) for shim in shims] == [("a", 2), ("b", 3)]
    assert all(shim.HasField("report_time") for shim in shims)
