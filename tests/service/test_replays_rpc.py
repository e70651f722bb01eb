"""Replays over a real connection."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.service.stubs import Client, mo_message, serving, violations_of

ALL_OF_C1 = pb.ReplaySelection(channel_config_id="C1")


async def deliver(client: Client, *sids: str) -> None:
    """Store messages, each of a conversation of its own, and acknowledge them."""
    await client.create_channel()
    messages = [mo_message(sid, sender=f"whatsapp:+{index}") for index, sid in enumerate(sids)]
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))
    assert sorted(await pull(client, len(sids))) == sorted((sid, False) for sid in sids)


async def pull(client: Client, count: int, destination: str = "default") -> list[tuple[str, bool]]:
    """Take and acknowledge so many, waiting for them; return their ids, and whether they were replayed."""
    found: list[pb.Delivery] = []
    while len(found) < count:
        request = pb.PullRequest(destination=destination, wait=Duration(seconds=20))
        deliveries = (await client.feed.Pull(request)).deliveries
        assert deliveries
        ack_ids = [delivery.ack_id for delivery in deliveries]
        await client.feed.Acknowledge(pb.AcknowledgeRequest(destination=destination, ack_ids=ack_ids))
        found += deliveries
    return [(delivery.message.message_sid, delivery.replayed) for delivery in found]


async def start(client: Client, replay_id: str = "r-1", *, actor: str = "ann", **values: object) -> pb.Replay:
    request = pb.StartReplayRequest(
        **{"replay_id": replay_id, "destination": "default", "selection": ALL_OF_C1, **values}  # type: ignore[arg-type]
    )
    return (await client.feed.StartReplay(request, metadata=[("mo-operator", actor)])).replay


async def get(client: Client, replay_id: str = "r-1") -> pb.Replay:
    return (await client.feed.GetReplay(pb.GetReplayRequest(replay_id=replay_id))).replay


async def test_a_replay_brings_messages_again_and_tells_how_far_it_is(client: Client) -> None:
    await deliver(client, "SM1", "SM2", "SM3")

    started = await start(client)
    again = await pull(client, 3)

    assert (started.total, started.queued, started.max_rate, started.requested_by) == (3, 0, 100, "ann")
    assert started.HasField("start_time")
    assert sorted(again) == [("SM1", True), ("SM2", True), ("SM3", True)]
    ended = await get(client)
    assert (ended.queued, ended.is_cancelled, ended.HasField("end_time")) == (3, False, True)
    assert ended.selection == ALL_OF_C1


async def test_a_dry_run_counts_and_starts_nothing(client: Client) -> None:
    await deliver(client, "SM1", "SM2")

    counted = await start(client, "", is_dry_run=True, destination="archive", max_rate=7)

    assert (counted.total, counted.max_rate, counted.destination) == (2, 7, "archive")
    assert not counted.HasField("start_time")
    assert not (await client.feed.ListReplays(pb.ListReplaysRequest())).replays


async def test_a_repeat_with_the_same_id_starts_nothing(client: Client) -> None:
    await deliver(client, "SM1")
    await start(client)
    await pull(client, 1)

    again = await start(client, destination="archive", actor="bob")

    assert (again.destination, again.requested_by) == ("default", "ann")
    (entry,) = (await client.archive.ListAuditEntries(archive_pb.ListAuditEntriesRequest(action="replay"))).entries
    assert (entry.actor, entry.details["messages"], entry.details["replay"]) == ("ann", "1", "r-1")


async def test_a_replay_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await deliver(client, "SM1", "SM2", "SM3")
        await start(client, max_rate=2)
        await pull(client, 1)

    async with serving(tmp_path) as client:
        assert len(await pull(client, 2)) == 2
        assert (await get(client)).queued == 3


async def test_a_cancelled_replay_stays_where_it_is(client: Client) -> None:
    await deliver(client, "SM1", "SM2", "SM3")
    await start(client, max_rate=1)
    await pull(client, 1)

    ended = (await client.feed.CancelReplay(pb.CancelReplayRequest(replay_id="r-1"))).replay

    assert (ended.is_cancelled, ended.HasField("end_time")) == (True, True)
    assert ended.queued < 3
    again = (await client.feed.CancelReplay(pb.CancelReplayRequest(replay_id="r-1"))).replay
    assert again == ended


async def test_replays_are_listed_newest_first_page_by_page(client: Client) -> None:
    await client.create_channel()
    for number in range(3):
        await start(client, f"r-{number}")

    page = await client.feed.ListReplays(pb.ListReplaysRequest(page_size=2))
    rest = await client.feed.ListReplays(pb.ListReplaysRequest(page_size=2, page_token=page.next_page_token))

    assert [replay.replay_id for replay in [*page.replays, *rest.replays]] == ["r-2", "r-1", "r-0"]
    assert rest.next_page_token == ""


async def test_everything_that_is_wrong_with_a_replay_is_named(client: Client) -> None:
    request = pb.StartReplayRequest(
        replay_id="not/one",
        destination="a b",
        max_rate=10_001,
        selection=pb.ReplaySelection(
            start_time=Timestamp(seconds=2), end_time=Timestamp(seconds=1), sender="whatsapp:+1", route_id="orders"
        ),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.feed.StartReplay(request)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == [
        "destination",
        "max_rate",
        "replay_id",
        "selection.channel_config_id",
        "selection.end_time",
    ]


async def test_a_replay_of_nothing_in_particular_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(client, selection=pb.ReplaySelection())

    assert violations_of(caught.value) == {"selection": "must name a time, a channel or both"}


@pytest.mark.parametrize("call", ["GetReplay", "CancelReplay"])
async def test_a_replay_that_nobody_started_is_not_found(client: Client, call: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(client.feed, call)(getattr(pb, f"{call}Request")(replay_id="none"))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "mo replay list" in str(caught.value.details())
