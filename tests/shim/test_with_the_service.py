"""The shim in front of the real service, both as processes: the directory's changes, and a service that goes away."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import grpc.aio
import pytest
from aicc.mo.v1.channel_directory_pb2 import (
    CHANNEL_STATE_DISABLED,
    Channel,
    CreateChannelRequest,
    DeleteChannelRequest,
    GetChannelReplicaRequest,
    GetChannelRequest,
    RotatePasswordRequest,
    UpdateChannelRequest,
)
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from google.protobuf.field_mask_pb2 import FieldMask

from tests.processes import Process, running_service, running_shim
from tests.shim.caller import FORM, PATH, basic, post
from tests.shim.fake_service import PASSWORD, USER


@dataclass(frozen=True)
class Gateway:
    """Both processes, and the service's directory."""

    service: Process
    shim: Process
    directory: ChannelDirectoryStub

    async def create(self, channel_config_id: str = "C1") -> None:
        channel = Channel(channel_config_id=channel_config_id, webhook_user=USER, destination="default")
        await self.directory.CreateChannel(CreateChannelRequest(channel=channel, password=PASSWORD))

    async def status(self, password: str = PASSWORD, sid: str = "SM1") -> int:
        response = await post(
            self.shim.listen, FORM | {"MessageSid": sid}, path=PATH, authorization=basic(password=password)
        )
        return response.status

    async def find_hash(self) -> str:
        response = await self.directory.GetChannelReplica(GetChannelReplicaRequest(channel_config_id="C1"))
        return response.channel.password_hashes[0].phc

    async def find_use_time(self) -> float | None:
        channel = (await self.directory.GetChannel(GetChannelRequest(channel_config_id="C1"))).channel
        return channel.password_use_time.ToMicroseconds() / 1e6 if channel.HasField("password_use_time") else None

    async def wait_for_status(self, status: int, *, password: str = PASSWORD) -> None:
        async with asyncio.timeout(50):
            while await self.status(password) != status:
                pass


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with (
        running_service(tmp_path) as service,
        running_shim(tmp_path, service=service.listen) as shim,
        grpc.aio.insecure_channel(service.listen) as channel,
    ):
        await asyncio.to_thread(shim.wait_for_event, "directory_received")
        yield Gateway(service, shim, ChannelDirectoryStub(channel))


async def test_a_channel_takes_messages_the_moment_that_it_exists_and_none_when_it_is_gone(gateway: Gateway) -> None:
    assert await gateway.status() == 401
    await gateway.create("C2")
    await gateway.create()
    await gateway.wait_for_status(204)  # asked about a moment ago: then the stream tells
    disable = UpdateChannelRequest(
        channel=Channel(channel_config_id="C1", state=CHANNEL_STATE_DISABLED), update_mask=FieldMask(paths=["state"])
    )
    await gateway.directory.UpdateChannel(disable)
    await gateway.wait_for_status(403)
    with pytest.raises(grpc.aio.AioRpcError) as refused:  # its message is not delivered yet
        await gateway.directory.DeleteChannel(DeleteChannelRequest(channel_config_id="C1"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await gateway.directory.DeleteChannel(DeleteChannelRequest(channel_config_id="C2"))


async def test_a_rotated_password_is_good_and_the_old_one_until_its_grace_ends(gateway: Gateway) -> None:
    await gateway.create()
    await gateway.wait_for_status(204)
    await gateway.directory.RotatePassword(RotatePasswordRequest(channel_config_id="C1", password="the second one"))
    await gateway.wait_for_status(204, password="the second one")
    assert await gateway.status() == 204
    await gateway.directory.RotatePassword(RotatePasswordRequest(channel_config_id="C1", password="the third one"))
    await gateway.wait_for_status(401)
    assert await gateway.status("the second one") == 204


async def test_a_hash_is_made_anew_when_the_service_wants_stronger_ones(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.create()
    await gateway.wait_for_status(204)
    weaker = await gateway.find_hash()
    gateway.service.terminate()
    assert await asyncio.to_thread(gateway.service.wait) == 0
    async with running_service(tmp_path, listen=gateway.service.listen, argon2_passes=3):
        upgraded = asyncio.create_task(asyncio.to_thread(gateway.shim.wait_for_event, "password_hash_upgraded"))
        # It may first find the old service again, which still drains: whichever request comes after the new one's word.
        for number in count():
            assert await gateway.status(sid=f"SM2-{number}") == 204
            if (await asyncio.wait([upgraded], timeout=0.2))[0]:
                break
        await upgraded
        stronger = await gateway.find_hash()
        assert (",t=2,p=1$" in weaker, ",t=3,p=1$" in stronger) == (True, True)
        gateway.shim.terminate()
        assert await asyncio.to_thread(gateway.shim.wait) == 0
        async with running_shim(tmp_path, service=gateway.service.listen) as successor:
            await asyncio.to_thread(successor.wait_for_event, "directory_connected")
            assert (await post(successor.listen, authorization=basic(password="wrong"))).status == 401
            assert (await post(successor.listen)).status == 204


async def test_the_last_use_of_a_password_is_known_when_the_shim_has_stopped(gateway: Gateway) -> None:
    await gateway.create()
    assert await gateway.status("not the password") == 401
    assert await gateway.find_use_time() is None
    before = time.time()
    await gateway.wait_for_status(204)
    gateway.shim.terminate()
    assert await asyncio.to_thread(gateway.shim.wait) == 0

    used_at = await gateway.find_use_time()

    assert used_at is not None
    assert before <= used_at <= time.time()


async def test_a_service_that_was_away_is_found_again(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.create()
    await gateway.wait_for_status(204)
    gateway.service.kill()
    assert await gateway.status(sid="SM2") == 204
    async with running_service(tmp_path, listen=gateway.service.listen):
        await asyncio.to_thread(gateway.shim.wait_for_event, "journal_empty")
        assert await gateway.status(sid="SM3") == 204
        await asyncio.to_thread(gateway.shim.wait_for_event, "directory_connected", occurrence=2)


async def test_a_restarted_shim_knows_its_callers_while_the_service_is_away(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.create()
    await gateway.wait_for_status(204)
    gateway.shim.terminate()
    assert await asyncio.to_thread(gateway.shim.wait) == 0
    gateway.service.kill()
    async with running_shim(tmp_path, service=gateway.service.listen) as successor:
        assert (await post(successor.listen)).status == 204
        assert (await post(successor.listen, authorization=basic(password="wrong"))).status == 401


async def test_a_frozen_service_is_waited_for_and_goes_on_when_it_thaws(gateway: Gateway) -> None:
    await gateway.create()
    await gateway.wait_for_status(204)
    gateway.service.freeze()
    assert await gateway.status(sid="SM2") == 204
    gateway.service.thaw()
    await asyncio.to_thread(gateway.shim.wait_for_event, "journal_empty")
    assert await gateway.status(sid="SM3") == 204
