"""ChannelDirectory over a real connection."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import argon2
import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.service.stubs import Client, violations_of

Call = Callable[[Client], Awaitable[Any]]


async def replica_of(client: Client, channel_config_id: str = "C1") -> pb.ChannelReplica:
    response = await client.directory.GetChannelReplica(
        pb.GetChannelReplicaRequest(channel_config_id=channel_config_id)
    )
    return response.channel


async def update(client: Client, paths: list[str], **values: Any) -> pb.Channel:
    response = await client.directory.UpdateChannel(
        pb.UpdateChannelRequest(
            channel=pb.Channel(**{"channel_config_id": "C1", **values}), update_mask=FieldMask(paths=paths)
        )
    )
    return response.channel


def verifies(replica: pb.ChannelReplica, index: int, password: str) -> bool:
    try:
        return argon2.PasswordHasher().verify(replica.password_hashes[index].phc, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


async def test_a_generated_password_is_shown_once_and_verifies(client: Client) -> None:
    response = await client.directory.CreateChannel(
        pb.CreateChannelRequest(channel=pb.Channel(channel_config_id="C1", webhook_user="user"))
    )

    assert re.fullmatch(r"[A-Za-z0-9._~-]{32}", response.generated_password)
    assert response.channel.provider == "twilio"
    assert response.channel.state == pb.CHANNEL_STATE_ENABLED
    assert verifies(await replica_of(client), 0, response.generated_password)


async def test_a_rotated_password_overlaps_with_the_old_one_under_one_salt(client: Client) -> None:
    await client.create_channel()

    response = await client.directory.RotatePassword(
        pb.RotatePasswordRequest(channel_config_id="C1", password="another password", grace_period=Duration(seconds=60))
    )

    replica = await replica_of(client)
    assert verifies(replica, 0, "another password")
    assert verifies(replica, 1, "a good password")
    assert len({entry.phc.rpartition("$")[0] for entry in replica.password_hashes}) == 1
    assert replica.password_hashes[1].expire_time == response.channel.previous_password_expire_time
    assert replica.credential_revision == 2


async def test_a_rotation_without_grace_ends_the_old_password_at_once(client: Client) -> None:
    await client.create_channel()

    await client.directory.RotatePassword(pb.RotatePasswordRequest(channel_config_id="C1", grace_period=Duration()))

    assert len((await replica_of(client)).password_hashes) == 1


async def test_an_update_changes_what_its_mask_names_and_nothing_else(client: Client) -> None:
    await client.create_channel(number="+491234567")

    channel = await update(client, ["destination", "state"], state=pb.CHANNEL_STATE_PAUSED, number="+499999999")

    assert not channel.HasField("destination")
    assert channel.number == "+491234567"
    assert channel.state == pb.CHANNEL_STATE_PAUSED


async def test_editing_a_channel_leaves_its_credential_revision_alone_unless_the_user_changes(client: Client) -> None:
    await client.create_channel()
    await update(client, ["number"], number="+491234567")
    assert (await replica_of(client)).credential_revision == 1

    await update(client, ["webhook_user"], webhook_user="another")

    assert (await replica_of(client)).credential_revision == 2


async def test_an_update_with_an_old_etag_is_aborted(client: Client) -> None:
    created = (await client.create_channel()).channel
    await update(client, ["number"], number="+491234567", etag=created.etag)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(client, ["number"], number="+491111111", etag=created.etag)

    assert caught.value.code() is grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        pytest.param(
            lambda client: client.directory.CreateChannel(
                pb.CreateChannelRequest(
                    channel=pb.Channel(
                        channel_config_id="a/b", provider="T!", number="1", webhook_user="a:b", destination="a b"
                    ),
                    password="\x07" * 300,
                )
            ),
            ["channel_config_id", "destination", "number", "password", "provider", "webhook_user"],
            id="a channel with every field wrong",
        ),
        pytest.param(lambda client: update(client, []), ["update_mask"], id="an update of nothing"),
        pytest.param(
            lambda client: update(client, ["provider", "state"]),
            ["state", "update_mask"],
            id="an update of what is fixed",
        ),
        pytest.param(lambda client: update(client, ["number"], etag="x"), ["etag"], id="an etag that is none"),
        pytest.param(
            lambda client: client.directory.RotatePassword(
                pb.RotatePasswordRequest(
                    channel_config_id="C1", password="x" * 257, grace_period=Duration(seconds=31 * 24 * 3600)
                )
            ),
            ["grace_period", "password"],
            id="a rotation out of bounds",
        ),
        pytest.param(
            lambda client: client.directory.SetRoutes(
                pb.SetRoutesRequest(channel_config_id="C1", routes=[pb.Route(route_id="r")])
            ),
            ["routes[0].destinations"],
            id="a route without destinations",
        ),
        pytest.param(
            lambda client: client.directory.ListChannels(pb.ListChannelsRequest(page_token="???")),
            ["page_token"],
            id="a page token that is none",
        ),
        pytest.param(
            lambda client: client.directory.ListChannels(pb.ListChannelsRequest(page_size=-1)),
            ["page_size"],
            id="a negative page size",
        ),
    ],
)
async def test_a_malformed_request_names_every_bad_field(client: Client, call: Call, fields: list[str]) -> None:
    await client.create_channel()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(client)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == fields


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    calls: list[Call] = [
        lambda client: client.directory.GetChannel(pb.GetChannelRequest(channel_config_id="C1")),
        lambda client: client.directory.DeleteChannel(pb.DeleteChannelRequest(channel_config_id="C1")),
        lambda client: client.directory.GetRoutes(pb.GetRoutesRequest(channel_config_id="C1")),
        lambda client: update(client, ["number"]),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(client)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    assert not (await client.directory.GetChannelReplica(pb.GetChannelReplicaRequest(channel_config_id="C1"))).HasField(
        "channel"
    )


async def test_channels_are_listed_page_by_page(client: Client) -> None:
    for number in range(5):
        await client.create_channel(f"C{number}")

    names, token = [], ""
    while True:
        page = await client.directory.ListChannels(pb.ListChannelsRequest(page_size=2, page_token=token))
        names.append([channel.channel_config_id for channel in page.channels])
        token = page.next_page_token
        if not token:
            break

    assert names == [["C0", "C1"], ["C2", "C3"], ["C4"]]


async def test_who_watches_gets_a_snapshot_then_each_change_as_it_happens(client: Client) -> None:
    await client.create_channel("C1")
    watch = client.directory.WatchChannels(pb.WatchChannelsRequest())
    snapshot = await anext(aiter(watch))
    await client.create_channel("C2")
    change = await anext(aiter(watch))
    await client.directory.DeleteChannel(pb.DeleteChannelRequest(channel_config_id="C1"))
    deletion = await anext(aiter(watch))
    watch.cancel()

    assert (snapshot.reset, snapshot.caught_up) == (True, True)
    assert [channel.channel_config_id for channel in snapshot.channels] == ["C1"]
    assert (change.reset, [channel.channel_config_id for channel in change.channels]) == (False, ["C2"])
    assert [(channel.channel_config_id, channel.deleted) for channel in deletion.channels] == [("C1", True)]
    assert not deletion.channels[0].password_hashes


async def test_who_watches_from_a_revision_on_gets_only_what_changed_since(client: Client) -> None:
    await client.create_channel("C1")
    watch = client.directory.WatchChannels(pb.WatchChannelsRequest())
    snapshot = await anext(aiter(watch))
    watch.cancel()
    await client.create_channel("C2")

    watch = client.directory.WatchChannels(
        pb.WatchChannelsRequest(directory_id=snapshot.directory_id, after_revision=snapshot.revision)
    )
    change = await anext(aiter(watch))
    watch.cancel()

    assert not change.reset
    assert [channel.channel_config_id for channel in change.channels] == ["C2"]
