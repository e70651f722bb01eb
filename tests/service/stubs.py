"""A running service with a stub for each of its services, and builders for what they take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_pb2
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from aicc.mo.v1.message_archive_pb2_grpc import MessageArchiveStub
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service.__main__ import open_service
from service.settings import Settings


@dataclass
class Client:
    """Everything that a caller of the service needs."""

    address: str
    admin: str
    channel: grpc.aio.Channel
    ingest: MessageIngestStub
    directory: ChannelDirectoryStub
    feed: MessageFeedStub
    archive: MessageArchiveStub

    async def create_channel(self, channel_config_id: str = "C1", **values: Any) -> directory_pb.CreateChannelResponse:
        channel = directory_pb.Channel(
            **{"channel_config_id": channel_config_id, "webhook_user": "user", "destination": "default", **values}
        )
        return await self.directory.CreateChannel(
            directory_pb.CreateChannelRequest(channel=channel, password="a good password")
        )


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[Client]:
    settings = Settings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", store=folder / "mo.db", **changes)
    async with open_service(settings) as running, connected(running.listen, running.admin_listen) as client:
        yield client


@asynccontextmanager
async def connected(
    address: str, admin: str = "", *, credentials: grpc.ChannelCredentials | None = None, name: str = ""
) -> AsyncIterator[Client]:
    # Those that call one address with other certificates don't share a connection.
    options = [("grpc.use_local_subchannel_pool", 1), *([("grpc.default_authority", name)] if name else [])]
    async with (
        grpc.aio.secure_channel(address, credentials, options)
        if credentials
        else grpc.aio.insecure_channel(address, options)
    ) as channel:
        yield Client(
            address,
            admin,
            channel,
            MessageIngestStub(channel),
            ChannelDirectoryStub(channel),
            MessageFeedStub(channel),
            MessageArchiveStub(channel),
        )


def mo_message(sid: str, **values: Any) -> message_pb2.MoMessage:
    return message_pb2.MoMessage(
        **{
            "channel_config_id": "C1",
            "message_sid": sid,
            "sender": "whatsapp:+447700900123",
            "receiver": "whatsapp:+14155238886",
            "message_type": message_pb2.MESSAGE_TYPE_TEXT,
            "message_type_name": "text",
            "body": "Hello",
            **values,
        }
    )


def violations_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """The field violations in the details of a status."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # AioRpcError has what it needs
    assert status is not None
    found: dict[str, str] = {}
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        assert detail.Unpack(bad_request)
        found |= {violation.field: violation.description for violation in bad_request.field_violations}
    return found
