"""The demo's channel: created the first time, with its password in a file of the operator's own."""

import os
from pathlib import Path

import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import (
    Channel,
    CreateChannelRequest,
    GetChannelRequest,
    RotatePasswordRequest,
)
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub

from shim.demo_children import DemoError

_TIMEOUT_SECONDS = 10.0


async def prepare_channel(service: str, channel_config_id: str, user: str, password_file: Path) -> str:
    """See that the channel exists and that `password_file` holds its password; returns what the person should know.

    A repeat keeps both. A lost file is made good by a new password, a lost
    store by creating the channel with the password in the file. Raises
    `DemoError` when the channel was deleted, since its id is not used again.
    """
    async with grpc.aio.insecure_channel(service, options=[("grpc.enable_http_proxy", 0)]) as channel:
        directory = ChannelDirectoryStub(channel)
        password = _kept(password_file)
        try:
            return await _prepare(directory, channel_config_id, user, password, password_file)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                text = f"channel {channel_config_id!r} was deleted, and its id can't come back; use another --var-dir"
                raise DemoError(text) from error
            reason = (error.details() or error.code().name).partition("\n")[0]
            raise DemoError(f"channel {channel_config_id!r} can't be prepared: {reason}") from error


async def _prepare(
    directory: ChannelDirectoryStub, channel_config_id: str, user: str, password: str, file: Path
) -> str:
    if await _exists(directory, channel_config_id):
        if password:
            return f"channel {channel_config_id!r}: its password is in {file}"
        request = RotatePasswordRequest(channel_config_id=channel_config_id)
        rotated = await directory.RotatePassword(request, timeout=_TIMEOUT_SECONDS)
        _keep_private(file, rotated.generated_password)
        return f"channel {channel_config_id!r}: its password was lost; there is a new one in {file}"
    wanted = Channel(channel_config_id=channel_config_id, webhook_user=user, destination="default")
    request_new = CreateChannelRequest(channel=wanted, password=password)
    created = await directory.CreateChannel(request_new, timeout=_TIMEOUT_SECONDS)
    if created.generated_password:
        _keep_private(file, created.generated_password)
    return f"channel {channel_config_id!r} is created; its password is in {file}, for this start and later ones"


async def _exists(directory: ChannelDirectoryStub, channel_config_id: str) -> bool:
    try:
        await directory.GetChannel(GetChannelRequest(channel_config_id=channel_config_id), timeout=_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return True


def _kept(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _keep_private(file: Path, password: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(password)
    draft.replace(file)
