"""Everything that is done by hand is written down: with who and when, and nobody's words, secrets or whole numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from service.errors import StoreUnavailable
from service.models import AuditEntry
from service.store.sqlite import SqliteStore
from tests.service.stubs import Client, mo_message

Call = Callable[[Client], Awaitable[Any]]

ANN = [("mo-operator", "ann")]
TEXT = "a recipe that nobody else may read"
NUMBER = "+447700900123"
KEY = message_pb2.MessageKey(channel_config_id="C1", message_sid="SM1")


async def entries_of(client: Client, actor: str = "ann") -> list[tuple[str, dict[str, str]]]:
    """What somebody did, newest first."""
    entries = (await client.archive.ListAuditEntries(pb.ListAuditEntriesRequest(page_size=1000))).entries
    return [(entry.action, dict(entry.details)) for entry in entries if entry.actor == actor]


async def stored(client: Client, *, destination: str | None = "default") -> None:
    """A channel, a message with words, a request in quarantine, and a dead letter."""
    await client.create_channel(destination=destination)
    settings = feed_pb.DestinationSettings(max_attempts=1)
    await client.feed.UpdateDestination(feed_pb.UpdateDestinationRequest(name="default", settings=settings))
    await client.ingest.Ingest(ingest_pb.IngestRequest(message=mo_message("SM1", body=TEXT)))
    request = ingest_pb.QuarantinedRequest(entry_id="q1", channel_config_id="C1", body=TEXT.encode())
    await client.ingest.Quarantine(ingest_pb.QuarantineRequest(requests=[request]))
    for delivery in (await client.feed.Pull(feed_pb.PullRequest(destination="default"))).deliveries:
        nack = feed_pb.ModifyAckDeadlineRequest(destination="default", ack_ids=[delivery.ack_id])
        await client.feed.ModifyAckDeadline(nack)


async def update(client: Client, paths: list[str], **values: Any) -> None:
    channel = directory_pb.Channel(channel_config_id="C1", **values)
    request = directory_pb.UpdateChannelRequest(channel=channel, update_mask=FieldMask(paths=paths))
    await client.directory.UpdateChannel(request, metadata=ANN)


async def test_each_change_of_a_channel_is_written_down_with_what_it_was_and_is(client: Client) -> None:
    channel = directory_pb.Channel(channel_config_id="C1", webhook_user="user", number="+14155238886")
    create = directory_pb.CreateChannelRequest(channel=channel, password="a good password")
    await client.directory.CreateChannel(create, metadata=ANN)
    await update(client, ["state", "number"], state=directory_pb.CHANNEL_STATE_PAUSED, number=NUMBER)
    await update(
        client,
        ["destination", "webhook_user", "affinity", "infer_message_type"],
        destination="bot",
        webhook_user="another",
        affinity=Duration(seconds=60),
        infer_message_type=True,
    )
    rotate = directory_pb.RotatePasswordRequest(channel_config_id="C1", password="another password")
    await client.directory.RotatePassword(rotate, metadata=ANN)
    route = directory_pb.Route(route_id="r1", destinations=["bot"])
    routes = directory_pb.SetRoutesRequest(channel_config_id="C1", routes=[route])
    await client.directory.SetRoutes(routes, metadata=ANN)
    await client.directory.DeleteChannel(directory_pb.DeleteChannelRequest(channel_config_id="C1"), metadata=ANN)

    assert await entries_of(client) == [
        ("channel-delete", {"channel": "C1"}),
        ("routes-set", {"channel": "C1", "revision": "1", "routes": "1"}),
        ("password-rotate", {"channel": "C1", "grace_seconds": "86400"}),
        (
            "channel-update",
            {
                "channel": "C1",
                "destination": "None → bot",
                "infer_message_type": "False → True",
                "affinity_seconds": "0 → 60",
                "webhook_user": "another one",
            },
        ),
        ("channel-update", {"channel": "C1", "state": "ENABLED → PAUSED", "number": "+1415…86 → +4477…23"}),
        ("channel-create", {"channel": "C1"}),
    ]


async def test_what_is_refused_is_not_written_down(client: Client) -> None:
    await client.create_channel()
    refused: list[Call] = [
        lambda client: client.create_channel(),
        lambda client: update(client, ["number"], number="no number"),
        lambda client: update(client, ["number"], number=NUMBER, etag="17"),
        lambda client: client.directory.SetRoutes(
            directory_pb.SetRoutesRequest(channel_config_id="C1", expected_revision=7), metadata=ANN
        ),
        lambda client: client.directory.DeleteChannel(
            directory_pb.DeleteChannelRequest(channel_config_id="C2"), metadata=ANN
        ),
        lambda client: client.archive.GetMessage(
            pb.GetMessageRequest(channel_config_id="C1", message_sid="SM9", include_text=True), metadata=ANN
        ),
    ]
    for call in refused:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(client)

    assert await entries_of(client) == []
    assert [action for action, _ in await entries_of(client, "127.0.0.1")] == ["channel-create"]


async def test_settings_of_destinations_are_written_down_when_they_change(client: Client) -> None:
    for seconds in (30, 30, 45):
        settings = feed_pb.DestinationSettings(ack_deadline=Duration(seconds=seconds))
        request = feed_pb.UpdateDestinationRequest(name="bot", settings=settings)
        await client.feed.UpdateDestination(request, metadata=ANN)

    assert await entries_of(client) == [
        ("destination-update", {"destination": "bot", "ack_deadline_seconds": "30.0 → 45.0"}),
        ("destination-update", {"destination": "bot", "ack_deadline_seconds": "60.0 → 30.0"}),
    ]


LOOKS: dict[str, tuple[Callable[[Client, bool], Awaitable[Any]], dict[str, str]]] = {
    "a message": (
        lambda client, text: client.archive.GetMessage(
            pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1", include_text=text), metadata=ANN
        ),
        {"of": "message", "channel": "C1", "message_sid": "SM1"},
    ),
    "messages": (
        lambda client, text: client.archive.ListMessages(
            pb.ListMessagesRequest(channel_config_id="C1", sender=f"whatsapp:{NUMBER}", include_text=text), metadata=ANN
        ),
        {"of": "messages", "channel": "C1", "sender": "whatsapp:+4477…23", "shown": "1"},
    ),
    "a request in quarantine": (
        lambda client, text: client.archive.GetQuarantined(
            pb.GetQuarantinedRequest(entry_id="q1", include_text=text), metadata=ANN
        ),
        {"of": "quarantined request", "entry_id": "q1"},
    ),
    "requests in quarantine": (
        lambda client, text: client.archive.ListQuarantined(pb.ListQuarantinedRequest(include_text=text), metadata=ANN),
        {"of": "quarantined requests", "shown": "1"},
    ),
    "dead letters": (
        lambda client, text: client.feed.ListDeadLetters(
            feed_pb.ListDeadLettersRequest(destination="default", include_text=text), metadata=ANN
        ),
        {"of": "dead letters", "destination": "default", "shown": "1"},
    ),
}


@pytest.mark.parametrize("what", LOOKS)
async def test_a_look_at_words_is_written_down_and_one_without_them_is_not(client: Client, what: str) -> None:
    look, details = LOOKS[what]
    await stored(client)

    without = await look(client, False)
    assert TEXT not in str(without)
    assert await entries_of(client) == []
    shown = await look(client, True)

    assert TEXT in str(shown)
    assert await entries_of(client) == [("look-at-text", details)]


@pytest.mark.parametrize("what", LOOKS)
async def test_nobody_is_shown_words_when_the_look_cannot_be_written_down(
    client: Client, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, _ = LOOKS[what]
    await stored(client)

    async def fail(_self: SqliteStore, _entry: AuditEntry) -> None:
        raise StoreUnavailable("the store is full; retry")

    monkeypatch.setattr(SqliteStore, "audit", fail)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await look(client, True)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_look_that_finds_nothing_is_none(client: Client) -> None:
    await client.archive.ListMessages(pb.ListMessagesRequest(include_text=True), metadata=ANN)
    await client.archive.ListQuarantined(pb.ListQuarantinedRequest(include_text=True), metadata=ANN)
    await client.feed.ListDeadLetters(feed_pb.ListDeadLettersRequest(include_text=True), metadata=ANN)

    assert await entries_of(client) == []


async def test_what_is_done_with_messages_is_written_down_without_words_and_whole_numbers(client: Client) -> None:
    await stored(client, destination=None)
    release = pb.ReleaseHeldRequest(selection=pb.HeldSelection(keys=[KEY]), destination="default")
    await client.archive.ReleaseHeld(release, metadata=ANN)
    await client.archive.DiscardQuarantined(pb.DiscardQuarantinedRequest(entry_ids=["q1"]), metadata=ANN)
    assign = ingest_pb.AssignConversationRequest(
        channel_config_id="C1", sender=f"whatsapp:{NUMBER}", destination="desk"
    )
    await client.ingest.AssignConversation(assign, metadata=ANN)
    replay = feed_pb.StartReplayRequest(
        replay_id="r1", destination="bot", selection=feed_pb.ReplaySelection(channel_config_id="C1")
    )
    await client.feed.StartReplay(replay, metadata=ANN)
    await client.archive.EraseSender(
        pb.EraseSenderRequest(channel_config_id="C1", sender=f"whatsapp:{NUMBER}"), metadata=ANN
    )

    entries = await entries_of(client)

    assert [action for action, _ in entries] == ["erase", "replay", "assign", "quarantine-discard", "release"]
    assert NUMBER not in str(entries)
    assert TEXT not in str(entries)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit"])
async def test_not_even_the_database_takes_an_entry_back(tmp_path: Path, statement: str) -> None:
    store = SqliteStore.open(tmp_path / "mo.db")
    await store.audit(AuditEntry("ann", "look-at-text", {}))
    await store.close()
    connection = apsw.Connection(str(tmp_path / "mo.db"))

    with pytest.raises(apsw.ConstraintError, match="append-only"):
        connection.execute(statement)

    assert connection.execute("SELECT actor FROM audit").fetchall() == [("ann",)]
    connection.close()
