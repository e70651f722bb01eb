"""Passwords of channels over a real connection: chosen, used, hashed anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import argon2
import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service import passwords
from service.__main__ import open_service
from service.passwords import Hashing
from service.settings import Settings
from tests.service.stubs import Client, connected, violations_of

WEAK, STRONG = Hashing(64, 1), Hashing(128, 2)
PASSWORD = "a good password"


@asynccontextmanager
async def serving(folder: Path, hashing: Hashing) -> AsyncIterator[Client]:
    settings = Settings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", store=folder / "mo.db", hashing=hashing)
    async with open_service(settings) as running, connected(running.listen) as client:
        yield client


@pytest.fixture
async def raised(tmp_path: Path) -> AsyncIterator[Client]:
    """A service that wants stronger hashes than the one that it has."""
    async with serving(tmp_path, WEAK) as client:
        await client.create_channel()
    async with serving(tmp_path, STRONG) as client:
        yield client


async def replica_of(client: Client) -> pb.ChannelReplica:
    return (await client.directory.GetChannelReplica(pb.GetChannelReplicaRequest(channel_config_id="C1"))).channel


async def load(client: Client) -> pb.Channel:
    return (await client.directory.GetChannel(pb.GetChannelRequest(channel_config_id="C1"))).channel


async def rotate(client: Client, password: str, seconds: int = 60) -> None:
    request = pb.RotatePasswordRequest(channel_config_id="C1", password=password)
    request.grace_period.CopyFrom(Duration(seconds=seconds))
    await client.directory.RotatePassword(request)


async def upgrade(client: Client, phc: str, **values: Any) -> bool:
    request = pb.UpgradePasswordHashRequest(
        **{"channel_config_id": "C1", "credential_revision": 1, "phc": phc, **values}
    )
    response = await client.directory.UpgradePasswordHash(request, metadata=[("mo-operator", "shim-1")])
    return response.upgraded


async def use(client: Client, password_id: str, seconds: int) -> None:
    use = pb.PasswordUse(channel_config_id="C1", password_id=password_id, use_time=Timestamp(seconds=seconds))
    await client.directory.ReportPasswordUses(pb.ReportPasswordUsesRequest(uses=[use]))


async def actions(client: Client) -> list[tuple[str, str]]:
    entries = (await client.archive.ListAuditEntries(archive_pb.ListAuditEntriesRequest())).entries
    return [(entry.actor, entry.action) for entry in entries]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("eleven char", "must have at least 12 characters.*generated"),
        ("webhook.user.1", "must not be the webhook user of the channel"),
        ("WEBHOOK.USER.1", "must not be the webhook user of the channel"),
        ("channel.number.1", "must not be the id of the channel"),
        ("x" * 257, "must have at most 256"),
        ("twelve chars\n", "control characters"),
    ],
)
async def test_a_chosen_password_that_can_be_guessed_is_refused_with_the_reason(
    client: Client, password: str, reason: str
) -> None:
    channel = pb.Channel(channel_config_id="channel.number.1", webhook_user="webhook.user.1")
    create = pb.CreateChannelRequest(channel=channel, password=password)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.directory.CreateChannel(create)
    create.password = "twelve chars"
    await client.directory.CreateChannel(create)
    with pytest.raises(grpc.aio.AioRpcError) as refused_too:
        await client.directory.RotatePassword(
            pb.RotatePasswordRequest(channel_config_id=channel.channel_config_id, password=password)
        )

    for error in (refused.value, refused_too.value):
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert re.search(reason, violations_of(error)["password"])
        assert password not in str(error.details())


async def test_each_password_is_shown_with_its_last_use(client: Client) -> None:
    await client.create_channel()
    assert not (await load(client)).HasField("password_use_time")
    first = (await replica_of(client)).password_hashes[0].password_id
    await use(client, first, 1_000)
    await rotate(client, "another password")
    replica = await replica_of(client)
    await use(client, replica.password_hashes[0].password_id, 3_000)

    shown = await load(client)

    assert replica.password_hashes[1].password_id == first
    assert (shown.password_use_time.seconds, shown.previous_password_use_time.seconds) == (3_000, 1_000)


async def test_no_more_than_a_thousand_uses_are_taken(client: Client) -> None:
    uses = [pb.PasswordUse(channel_config_id="C1", password_id="a")] * 1001
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.directory.ReportPasswordUses(pb.ReportPasswordUsesRequest(uses=uses))

    assert violations_of(refused.value) == {"uses": "must be at most 1000"}


async def test_shims_are_told_how_strong_hashes_should_be(raised: Client) -> None:
    watch = raised.directory.WatchChannels(pb.WatchChannelsRequest())
    response = await watch.read()
    watch.cancel()

    assert isinstance(response, pb.WatchChannelsResponse)
    assert response.wanted_hashing == pb.PasswordHashing(memory_kib=128, passes=2)


async def test_a_stronger_hash_takes_the_place_of_the_weaker_one(raised: Client) -> None:
    before = await replica_of(raised)
    await use(raised, before.password_hashes[0].password_id, 1_000)
    stronger = passwords.hash_password(PASSWORD, STRONG)

    assert await upgrade(raised, stronger)
    assert not await upgrade(raised, passwords.hash_password(PASSWORD, STRONG))

    after = await replica_of(raised)
    assert [each.phc for each in after.password_hashes] == [stronger]
    assert after.credential_revision == before.credential_revision
    assert after.revision > before.revision
    assert (await load(raised)).password_use_time.seconds == 1_000
    assert (await actions(raised))[0] == ("shim-1", "password-rehash")


async def test_a_hash_of_another_password_than_the_present_one_comes_too_late(raised: Client) -> None:
    await rotate(raised, "another password", seconds=0)

    assert not await upgrade(raised, passwords.hash_password(PASSWORD, STRONG))
    assert argon2.PasswordHasher().verify((await replica_of(raised)).password_hashes[0].phc, "another password")


async def test_no_hash_is_replaced_while_an_older_password_is_valid_and_both_keep_one_setting(raised: Client) -> None:
    await rotate(raised, "another password")

    assert not await upgrade(raised, passwords.hash_password("another password", STRONG), credential_revision=2)
    hashes = (await replica_of(raised)).password_hashes
    assert {each.phc.rpartition("$")[0] for each in hashes} == {hashes[0].phc.rpartition("$")[0]}
    assert argon2.extract_parameters(hashes[0].phc).memory_cost == WEAK.memory_kib


async def test_a_rotation_goes_on_when_the_old_hash_is_replaced_meanwhile(
    raised: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, stronger = asyncio.get_running_loop(), passwords.hash_password(PASSWORD, STRONG)
    hash_password = passwords.hash_password

    def hash_slowly(password: str, hashing: Hashing, *, like: str | None = None) -> str:
        assert asyncio.run_coroutine_threadsafe(upgrade(raised, stronger), loop).result(20)
        return hash_password(password, hashing, like=like)

    monkeypatch.setattr(passwords, "hash_password", hash_slowly)
    await rotate(raised, "another password")

    hashes = (await replica_of(raised)).password_hashes
    assert [
        argon2.PasswordHasher().verify(each.phc, password)
        for each, password in zip(hashes, ("another password", PASSWORD), strict=True)
    ] == [True, True]
    assert hashes[0].phc.rpartition("$")[0] == hashes[1].phc.rpartition("$")[0]


SALT, HASH = "c" * 22, "d" * 43


@pytest.mark.parametrize(
    "phc",
    [
        "",
        "a hash",
        f"$argon2id$v=19$m=64,t=2,p=1${SALT}${HASH}",
        f"$argon2id$v=19$m=128,t=1,p=1${SALT}${HASH}",
        f"$argon2id$v=19$m=256,t=2,p=1${SALT}${HASH}",
        f"$argon2id$v=19$m=128,t=2,p=2${SALT}${HASH}",
        f"$argon2i$v=19$m=128,t=2,p=1${SALT}${HASH}",
        f"$argon2id$v=16$m=128,t=2,p=1${SALT}${HASH}",
        f"$argon2id$v=19$m=128,t=2,p=1${SALT[1:]}${HASH}",
        f"$argon2id$v=19$m=128,t=2,p=1${SALT}${HASH[1:]}",
    ],
)
async def test_a_hash_of_another_setting_is_refused(raised: Client, phc: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upgrade(raised, phc)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "m=128, t=2, p=1" in violations_of(refused.value)["phc"]


async def test_a_hash_for_no_channel_is_refused(raised: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upgrade(raised, passwords.hash_password(PASSWORD, STRONG), channel_config_id="C2")

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_settings_that_are_lowered_leave_strong_hashes_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, STRONG) as client:
        await client.create_channel()
    async with serving(tmp_path, WEAK) as client:
        assert not await upgrade(client, passwords.hash_password(PASSWORD, WEAK))
