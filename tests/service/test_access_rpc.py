"""Who may call what, over mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.service.secured import Secured, secured
from tests.service.stubs import Client, mo_message, violations_of


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Secured]:
    async with secured(tmp_path) as running:
        async with running.call_as("operator") as operator:
            await operator.create_channel("C1", destination="bot")
            await operator.create_channel("C2", destination="agents")
        yield running


async def refusal(call: Awaitable[Any]) -> str:
    """What the call is refused with, for want of a role."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    return raised.value.details() or ""


def batch(*channels: str) -> ingest_pb.IngestBatchRequest:
    return ingest_pb.IngestBatchRequest(
        messages=[mo_message(f"SM{i}", channel_config_id=channel) for i, channel in enumerate(channels)]
    )


async def list_messages(service: Secured) -> list[str]:
    async with service.call_as("reader") as reader:
        found = await reader.archive.ListMessages(archive_pb.ListMessagesRequest())
    return [stored.message.message_sid for stored in found.messages]


async def test_an_operator_changes_and_reads(service: Secured) -> None:
    async with service.call_as("operator") as operator:
        await operator.directory.UpdateChannel(
            directory_pb.UpdateChannelRequest(
                channel=directory_pb.Channel(channel_config_id="C1", number="+14155238886"),
                update_mask=FieldMask(paths=["number"]),
            )
        )
        assert (await operator.directory.ListChannels(directory_pb.ListChannelsRequest())).channels


async def test_a_reader_changes_nothing(service: Secured) -> None:
    async with service.call_as("reader") as reader:
        assert (await reader.directory.ListChannels(directory_pb.ListChannelsRequest())).channels
        details = await refusal(
            reader.directory.DeleteChannel(directory_pb.DeleteChannelRequest(channel_config_id="C1"))
        )

    assert details == 'the role "operate" is missing: grant it to "reader" in the --roles file of mo-service'
    assert "operator" not in details.replace('"operate"', "")


async def test_only_a_shim_sees_hashes(service: Secured) -> None:
    ask = directory_pb.GetChannelReplicaRequest(channel_config_id="C1")
    watch = directory_pb.WatchChannelsRequest()
    async with service.call_as_shim() as shim:
        assert (await shim.directory.GetChannelReplica(ask)).channel.password_hashes
        response = await shim.directory.WatchChannels(watch).read()
        assert isinstance(response, directory_pb.WatchChannelsResponse)
        assert response.channels
    for name in ("importer", "operator", "reader", "bot.example.com"):
        async with service.call_as(name) as other:
            await refusal(other.directory.GetChannelReplica(ask))
            await refusal(other.directory.WatchChannels(watch).read())


async def test_a_shim_stores_messages_of_every_channel(service: Secured) -> None:
    async with service.call_as_shim() as shim:
        results = (await shim.ingest.IngestBatch(batch("C1", "C2", "gone", "no id!"))).results
        quarantined = ingest_pb.QuarantinedRequest(entry_id="e1", channel_config_id="C1")
        await shim.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[quarantined]))
        await shim.directory.ReportShim(
            directory_pb.ReportShimRequest(report=directory_pb.ShimReport(host_id="h1", version="1"))
        )

    accepted, rejected = ingest_pb.INGEST_OUTCOME_ACCEPTED, ingest_pb.INGEST_OUTCOME_REJECTED
    assert [result.outcome for result in results] == [accepted, accepted, rejected, rejected]


async def test_an_importer_stores_messages_of_its_channels_only(service: Secured) -> None:
    async with service.call_as("importer") as importer:
        await importer.ingest.IngestBatch(batch("C1", "C1"))
        details = await refusal(importer.ingest.IngestBatch(batch("C1", "C1", "C1", "C2")))
        await refusal(importer.ingest.Ingest(ingest_pb.IngestRequest(message=mo_message("S", channel_config_id="C2"))))
        await refusal(importer.ingest.IngestBatch(ingest_pb.IngestBatchRequest()))
        await refusal(importer.ingest.Quarantine(ingest_pb.QuarantineRequest()))

    assert '"ingest:C2"' in details
    assert await list_messages(service) == ["SM1", "SM0"]


async def test_a_channel_that_a_pattern_names_is_one_of_its_channels(service: Secured) -> None:
    async with service.call_as("importer") as importer:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await importer.ingest.Ingest(ingest_pb.IngestRequest(message=mo_message("S", channel_config_id="import-7")))

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # there is no such channel
    assert violations_of(raised.value)


async def test_who_names_a_quarantined_request_settles_it_and_must_be_an_operator(service: Secured) -> None:
    request = ingest_pb.IngestRequest(message=mo_message("SM9"), quarantine_entry_id="e1")
    for name in ("importer", "reader"):
        async with service.call_as(name) as other:
            assert '"operate"' in await refusal(other.ingest.Ingest(request))
    async with service.call_as_shim() as shim:
        quarantined = ingest_pb.QuarantinedRequest(entry_id="e1", channel_config_id="C1")
        await shim.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[quarantined]))
        await refusal(shim.ingest.Ingest(request))
    async with service.call_as("operator") as operator:
        assert '"ingest:C1"' in await refusal(operator.ingest.Ingest(ingest_pb.IngestRequest(message=mo_message("S"))))
        assert await list_messages(service) == []
        await operator.ingest.Ingest(request)

    assert await list_messages(service) == ["SM9"]


async def test_a_consumer_takes_from_its_destinations_only(service: Secured) -> None:
    async with service.call_as_shim() as shim:
        await shim.ingest.IngestBatch(batch("C1", "C2"))
    async with service.call_as("any name", dns=["bot.example.com", "agents"]) as bot:
        (delivery,) = (await bot.feed.Pull(feed_pb.PullRequest(destination="bot"))).deliveries
        calls: list[Callable[[str], Awaitable[Any]]] = [
            lambda name: bot.feed.Pull(feed_pb.PullRequest(destination=name)),
            lambda name: bot.feed.Acknowledge(feed_pb.AcknowledgeRequest(destination=name, ack_ids=[delivery.ack_id])),
            lambda name: bot.feed.ModifyAckDeadline(
                feed_pb.ModifyAckDeadlineRequest(destination=name, ack_ids=[delivery.ack_id])
            ),
        ]
        for call in calls:
            assert '"consume:agents"' in await refusal(call("agents"))
            await call("bots.one")


async def test_a_subscription_to_another_destination_is_refused(service: Secured) -> None:
    async with service.call_as("bot.example.com") as bot:
        call = bot.feed.Subscribe()
        await call.write(feed_pb.SubscribeRequest(destination="agents"))
        assert '"consume:agents"' in await refusal(call.read())


async def test_an_assignment_that_acknowledges_needs_the_destination_too(service: Secured) -> None:
    async with service.call_as_shim() as shim:
        await shim.ingest.IngestBatch(batch("C1"))
    async with service.call_as("bot.example.com") as bot:
        (delivery,) = (await bot.feed.Pull(feed_pb.PullRequest(destination="bot"))).deliveries
    request = ingest_pb.AssignConversationRequest(
        channel_config_id="C1", sender=delivery.message.sender, destination="agents"
    )
    with_ack = ingest_pb.AssignConversationRequest(ack_id=delivery.ack_id, ack_destination="bot")
    with_ack.MergeFrom(request)
    async with service.call_as("assigner") as assigner:
        assert '"consume:bot"' in await refusal(assigner.ingest.AssignConversation(with_ack))
        await assigner.ingest.AssignConversation(request)
    async with service.call_as("bot.example.com") as bot:
        answer = await bot.ingest.AssignConversation(with_ack)
    assert answer.ack_status == message_pb2.ACK_STATUS_OK


async def test_whoever_has_a_certificate_but_no_role_may_ask_for_health_alone(service: Secured) -> None:
    async with service.call_as("nobody") as nobody:
        check: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = nobody.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        assert '"read"' in await refusal(nobody.directory.ListShims(directory_pb.ListShimsRequest()))
        assert '"read"' in await refusal(list_services(nobody))


async def test_reflection_is_for_readers(service: Secured) -> None:
    async with service.call_as("reader") as reader:
        assert "aicc.mo.v1.MessageFeed" in await list_services(reader)


async def list_services(client: Client) -> list[str]:
    reflect: grpc.aio.StreamStreamMultiCallable[Any, Any] = client.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = reflect()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    response: Any = await call.read()
    await call.done_writing()
    return [service.name for service in response.list_services_response.service]


async def test_a_uri_counts_before_a_dns_name_and_that_before_the_common_name(service: Secured) -> None:
    async with service.call_as("operator", uris=["spiffe://aicc/nobody"], dns=["reader"]) as caller:
        assert '"spiffe://aicc/nobody"' in await refusal(caller.directory.ListShims(directory_pb.ListShimsRequest()))
    async with service.call_as("operator", dns=["reader", "operator"]) as caller:
        await caller.directory.ListShims(directory_pb.ListShimsRequest())
        await refusal(caller.directory.RotatePassword(directory_pb.RotatePasswordRequest(channel_config_id="C1")))


async def test_a_refusal_is_logged_once_and_counted_each_time(service: Secured) -> None:
    async with service.call_as("reader") as reader:
        for _ in range(3):
            await refusal(reader.directory.CreateChannel(directory_pb.CreateChannelRequest()))

    (record,) = service.events.find("permission_denied")
    facts = {name: vars(record)[name] for name in ("method", "identity", "role")}
    method = "/aicc.mo.v1.ChannelDirectory/CreateChannel"
    assert facts == {"method": method, "identity": "reader", "role": "operate"}


async def test_roles_change_without_a_restart_and_end_the_streams_of_who_lost_them(service: Secured) -> None:
    async with service.call_as("bot.example.com") as bot, service.call_as("agents") as agents:
        streams = [bot.feed.Subscribe(), agents.feed.Subscribe()]
        for stream, destination in zip(streams, ("bot", "agents"), strict=True):
            await stream.write(feed_pb.SubscribeRequest(destination=destination))
        service.roles.write_text(service.roles.read_text().replace('"bot.example.com"', '"bot.two"'))
        await service.events.wait_for("roles_reloaded")
        async with service.call_as_shim() as shim:
            await shim.ingest.IngestBatch(batch("C1", "C2"))

        assert '"consume:bot"' in await refusal(streams[0].read())
        response = await streams[1].read()
        assert isinstance(response, feed_pb.SubscribeResponse)
        assert response.deliveries
    async with service.call_as("bot.two") as successor:
        pull = feed_pb.PullRequest(destination="bot", wait=Duration(seconds=10))
        assert (await successor.feed.Pull(pull)).deliveries


async def test_a_broken_roles_file_changes_nothing_and_is_logged(service: Secured) -> None:
    service.roles.write_text('"reader" = ["operat"]')
    record = await service.events.wait_for("roles_refused")

    assert '"operat" is no role' in vars(record)["reason"]
    assert await list_messages(service) == []


async def test_callers_without_a_certificate_may_what_anonymous_may(tmp_path: Path) -> None:
    async with (
        secured(tmp_path, 'anonymous = ["read"]', asks=False) as service,
        service.call_as("operator") as caller,  # who isn't asked for it
    ):
        await caller.directory.ListShims(directory_pb.ListShimsRequest())
        details = await refusal(caller.create_channel())

    assert details == (
        'the role "operate" is missing: grant it to "anonymous", callers without a certificate, in the --roles file of '
        "mo-service"
    )


async def test_the_audit_log_names_whom_the_certificate_names(service: Secured) -> None:
    async with service.call_as("operator") as operator:
        await operator.archive.EraseSender(
            archive_pb.EraseSenderRequest(channel_config_id="C1", sender="whatsapp:+447700900123"),
            metadata=[("mo-operator", "ann@desk")],
        )
        entries = (await operator.archive.ListAuditEntries(archive_pb.ListAuditEntriesRequest())).entries

    assert entries[0].actor == "operator (calls itself ann@desk)"
