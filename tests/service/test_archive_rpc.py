"""The life of a message, erasure and the audit log over a real connection."""

from __future__ import annotations

import grpc
import pytest
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2
from google.protobuf.duration_pb2 import Duration

from tests.service.stubs import Client, mo_message, violations_of

ANN = "whatsapp:+447700900123"
BEN = "whatsapp:+447700900456"


async def ingest(client: Client, *messages: message_pb2.MoMessage) -> None:
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


async def pull(client: Client) -> list[feed_pb.Delivery]:
    request = feed_pb.PullRequest(destination="default", wait=Duration(seconds=10))
    return list((await client.feed.Pull(request)).deliveries)


async def nack(client: Client, *deliveries: feed_pb.Delivery) -> None:
    await client.feed.ModifyAckDeadline(
        feed_pb.ModifyAckDeadlineRequest(destination="default", ack_ids=[delivery.ack_id for delivery in deliveries])
    )


async def status_of(client: Client, sid: str) -> pb.DeliveryStatus:
    request = pb.GetMessageRequest(channel_config_id="C1", message_sid=sid)
    (status,) = (await client.archive.GetMessage(request)).message.deliveries
    return status


async def update(client: Client, **settings: object) -> None:
    await client.feed.UpdateDestination(
        feed_pb.UpdateDestinationRequest(name="default", settings=feed_pb.DestinationSettings(**settings))  # type: ignore[arg-type]
    )


async def audit(client: Client, action: str = "") -> list[pb.AuditEntry]:
    return list((await client.archive.ListAuditEntries(pb.ListAuditEntriesRequest(action=action))).entries)


async def test_the_life_of_a_message_is_shown_attempt_by_attempt(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"))
    waiting = await status_of(client, "SM1")
    assert waiting.state == pb.DELIVERY_STATE_WAITING
    assert not waiting.HasField("deliver_time")

    await nack(client, *await pull(client))
    (out,) = await pull(client)
    leased = await status_of(client, "SM1")
    assert (leased.state, leased.delivery_attempts, len(leased.failed_attempts)) == (pb.DELIVERY_STATE_LEASED, 2, 1)
    assert not leased.HasField("acknowledge_time")

    await client.feed.Acknowledge(feed_pb.AcknowledgeRequest(destination="default", ack_ids=[out.ack_id]))
    done = await status_of(client, "SM1")
    assert (done.state, done.delivery_attempts) == (pb.DELIVERY_STATE_ACKNOWLEDGED, 2)
    (failed,) = done.failed_attempts
    assert (failed.number, failed.outcome) == (1, message_pb2.ATTEMPT_OUTCOME_NACKED)
    assert failed.start_time.ToMicroseconds() <= failed.end_time.ToMicroseconds()
    assert failed.end_time.ToMicroseconds() <= done.deliver_time.ToMicroseconds()
    assert done.deliver_time.ToMicroseconds() <= done.acknowledge_time.ToMicroseconds()


async def test_a_message_that_was_given_up_and_discarded_says_so(client: Client) -> None:
    await client.create_channel()
    await update(client, max_attempts=1)
    await ingest(client, mo_message("SM1"))
    await nack(client, *await pull(client))
    assert (await status_of(client, "SM1")).state == pb.DELIVERY_STATE_DEAD_LETTERED

    selection = feed_pb.DeadLetterSelection(is_everything=True)
    await client.feed.DiscardDeadLetters(feed_pb.DiscardDeadLettersRequest(selection=selection))

    discarded = await status_of(client, "SM1")
    assert discarded.state == pb.DELIVERY_STATE_DISCARDED
    assert not discarded.HasField("acknowledge_time")
    assert len(discarded.failed_attempts) == 1


async def test_a_list_shows_states_but_no_attempts(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1"))
    await nack(client, *await pull(client))

    (message,) = (await client.archive.ListMessages(pb.ListMessagesRequest())).messages

    assert message.deliveries[0].state == pb.DELIVERY_STATE_WAITING
    assert not message.deliveries[0].failed_attempts


async def test_a_message_that_followed_its_conversation_says_why(client: Client) -> None:
    await client.create_channel()
    assign = ingest_pb.AssignConversationRequest(channel_config_id="C1", sender=ANN, destination="agents")
    await client.ingest.AssignConversation(assign)
    await ingest(client, mo_message("SM1", sender=ANN), mo_message("SM2", sender=BEN))

    (ben, ann) = (await client.archive.ListMessages(pb.ListMessagesRequest())).messages

    assert ann.assignment_reason == message_pb2.ASSIGNMENT_REASON_ASSIGNED
    assert ann.deliveries[0].destination == "agents"
    assert ben.assignment_reason == message_pb2.ASSIGNMENT_REASON_UNSPECIFIED


def a_request(entry_id: str, body: bytes, channel: str = "C1") -> ingest_pb.QuarantinedRequest:
    return ingest_pb.QuarantinedRequest(entry_id=entry_id, channel_config_id=channel, integrator="twilio", body=body)


async def test_an_erased_sender_is_gone_from_archive_feed_and_quarantine(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.erasure.REQUESTS_A_STEP", 2)
    await client.create_channel()
    await ingest(client, mo_message("SM1", sender=ANN), mo_message("SM2", sender=ANN), mo_message("SM3", sender=BEN))
    requests = [
        a_request("from-her", b"From=whatsapp%3A%2B447700900123&Body=words"),
        a_request("prefixed", b"From=whatsapp%3A%2B1447700900123"),
        a_request("encoded", b"X=%34%34%37%37%30%30%39%30%30%31%32%33"),
        a_request("of-him", b"From=whatsapp%3A%2B447700900456"),
        a_request("longer", b"From=whatsapp%3A%2B4477009001234"),
        a_request("elsewhere", b"From=whatsapp%3A%2B447700900123", "C2"),
    ]
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=requests))

    request = pb.EraseSenderRequest(channel_config_id="C1", sender=ANN)
    erased = await client.archive.EraseSender(request, metadata=[("mo-operator", "ann")])

    assert erased == pb.EraseSenderResponse(messages=2, deliveries=2, quarantined=2, is_complete=True)
    left = (await client.archive.ListMessages(pb.ListMessagesRequest())).messages
    assert [message.message.message_sid for message in left] == ["SM3"]
    assert [delivery.message.message_sid for delivery in await pull(client)] == ["SM3"]
    quarantined = (await client.archive.ListQuarantined(pb.ListQuarantinedRequest())).requests
    assert sorted(entry.entry_id for entry in quarantined) == ["elsewhere", "longer", "of-him", "prefixed"]
    assert {entry.action for entry in await audit(client) if entry.actor == "ann"} == {"erase", "quarantine-discard"}


async def test_a_short_sender_is_only_looked_for_where_senders_stand(client: Client) -> None:
    requests = [a_request("from", b"From=whatsapp:%2B1&NumMedia=1"), a_request("counts", b"NumMedia=1&NumSegments=1")]
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=requests))

    erased = await client.archive.EraseSender(pb.EraseSenderRequest(channel_config_id="C1", sender="whatsapp:+1"))

    assert erased.quarantined == 1


@pytest.mark.parametrize(
    "field", ["From=whatsapp%3A%2B447700900123", "WaId=447700900123", "ExternalUserId=whatsapp%3AGB.1"]
)
async def test_a_request_of_an_erased_sender_that_comes_late_is_dropped(client: Client, field: str) -> None:
    sender = "whatsapp:GB.1" if "GB.1" in field else ANN
    before = mo_message("SM1", sender=sender)
    before.receive_time.GetCurrentTime()
    await client.archive.EraseSender(pb.EraseSenderRequest(channel_config_id="C1", sender=sender))
    late, his, elsewhere = requests = [
        a_request("late", f"Body=words&{field}".encode()),
        a_request("his", b"From=whatsapp%3A%2B447700900456"),
        a_request("elsewhere", field.encode(), "C2"),
    ]
    for request in requests:
        request.receive_time.CopyFrom(before.receive_time)
    new = a_request("new", field.encode())

    for _ in range(2):
        await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[late, his, elsewhere, new]))

    kept = (await client.archive.ListQuarantined(pb.ListQuarantinedRequest())).requests
    assert sorted(entry.entry_id for entry in kept) == ["elsewhere", "his", "new"]
    dropped = await audit(client, "erased-drop")
    assert [dict(entry.details) for entry in dropped] == [{"channel": "C1", "requests": "1"}] * 2


async def test_a_copy_that_comes_late_does_not_come_back(client: Client) -> None:
    await client.create_channel()
    late = mo_message("SM1", sender=ANN)
    late.receive_time.GetCurrentTime()
    await client.archive.EraseSender(pb.EraseSenderRequest(channel_config_id="C1", sender=ANN))

    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=[late], is_from_journal=True))

    assert not (await client.archive.ListMessages(pb.ListMessagesRequest())).messages
    (entry,) = await audit(client, "erased-drop")
    assert (entry.actor, dict(entry.details)) == ("gateway", {"channel": "C1", "messages": "1"})


async def test_a_sender_with_more_than_one_call_erases_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.erasure.MESSAGES_A_CALL", 4)
    monkeypatch.setattr("service.erasure.MESSAGES_A_STEP", 2)
    await client.create_channel()
    await ingest(client, *(mo_message(f"SM{number}", sender=ANN) for number in range(7)))

    request = pb.EraseSenderRequest(channel_config_id="C1", sender=ANN)
    calls = [await client.archive.EraseSender(request) for _ in range(3)]

    assert [(call.messages, call.is_complete) for call in calls] == [(4, False), (3, True), (0, True)]


async def test_an_erasure_names_everything_that_is_wrong(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.archive.EraseSender(pb.EraseSenderRequest(channel_config_id="no channel", sender="a\nb"))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == ["channel_config_id", "sender"]


async def test_the_audit_names_the_operator_else_the_address(client: Client) -> None:
    await client.create_channel(state=2)  # disabled channels hold what comes
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[a_request("q1", b""), a_request("q2", b"")]))

    await client.archive.DiscardQuarantined(pb.DiscardQuarantinedRequest(entry_ids=["q1"]))
    await client.archive.DiscardQuarantined(
        pb.DiscardQuarantinedRequest(entry_ids=["q2"]), metadata=[("mo-operator", "ann@desk")]
    )

    named, unnamed = await audit(client, "quarantine-discard")
    assert named.actor == "ann@desk"
    assert unnamed.actor == "127.0.0.1"
    assert unnamed.HasField("time")


async def test_audit_entries_are_paged(client: Client) -> None:
    for number in range(3):
        sender = f"whatsapp:+{number}"
        await client.archive.EraseSender(pb.EraseSenderRequest(channel_config_id="C1", sender=sender))

    page = await client.archive.ListAuditEntries(pb.ListAuditEntriesRequest(page_size=2))
    rest = await client.archive.ListAuditEntries(
        pb.ListAuditEntriesRequest(page_size=2, page_token=page.next_page_token)
    )

    assert (len(page.entries), len(rest.entries), rest.next_page_token) == (2, 1, "")


async def test_held_messages_are_released_and_discarded_in_the_name_of_the_operator(client: Client) -> None:
    await client.create_channel(destination=None)
    await ingest(client, mo_message("SM1"), mo_message("SM2"))
    ann = [("mo-operator", "ann")]
    key = message_pb2.MessageKey(channel_config_id="C1", message_sid="SM1")

    await client.archive.ReleaseHeld(
        pb.ReleaseHeldRequest(selection=pb.HeldSelection(keys=[key]), destination="default"), metadata=ann
    )
    await client.archive.DiscardHeld(
        pb.DiscardHeldRequest(selection=pb.HeldSelection(is_everything=True)), metadata=ann
    )

    done = [entry.action for entry in await audit(client) if entry.actor == "ann"]
    assert done == ["held-discard", "release"]
