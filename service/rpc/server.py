"""Puts the gRPC server together: our services, health, reflection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from aicc.mo.v1 import (
    channel_directory_pb2,
    channel_directory_pb2_grpc,
    message_archive_pb2,
    message_archive_pb2_grpc,
    message_feed_pb2,
    message_feed_pb2_grpc,
    message_ingest_pb2,
    message_ingest_pb2_grpc,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from service.access import Policy
from service.channel_passwords import ChannelPasswords
from service.directory import ChannelDirectory
from service.feed import MessageFeed
from service.ingest import MessageIngest
from service.operations import HeldMessages
from service.routed_channels import RoutedChannels
from service.rpc.access import AccessInterceptor
from service.rpc.archive import ArchiveServicer
from service.rpc.convert import fingerprint_of
from service.rpc.convert_routes import read_facts
from service.rpc.directory import DirectoryServicer
from service.rpc.feed import FeedServicer
from service.rpc.ingest import IngestServicer
from service.rpc.statuses import ErrorInterceptor
from service.shims import ShimReports
from service.signals import Signal
from service.signatures import SignatureSecrets
from service.store.contract import Clock, Store

LARGEST_REQUEST = 2 * 1024 * 1024 + 64 * 1024
"""A batch of 2 MiB and what its framing takes."""

OPTIONS = [
    # Two servers on one port would share it in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    # A stream may be silent for hours: let clients ask whether we are there, and ask them.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
]

SERVICES = [
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (message_ingest_pb2, "MessageIngest"),
        (channel_directory_pb2, "ChannelDirectory"),
        (message_feed_pb2, "MessageFeed"),
        (message_archive_pb2, "MessageArchive"),
    )
]


class Health:
    """What the standard health service says, of the whole and of each service."""

    def __init__(self) -> None:
        self.servicer = health_aio.HealthServicer()

    async def set_serving(self, is_serving: bool) -> None:
        """Say SERVING or NOT_SERVING."""
        state = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self.servicer.set(name, state)


def build_server(
    *,
    channels: RoutedChannels,
    directory: ChannelDirectory,
    passwords: ChannelPasswords,
    signatures: SignatureSecrets,
    feed: MessageFeed,
    store: Store,
    health: Health,
    find_concerns: Callable[[], Sequence[str]],
    replays_started: Signal,
    clock: Clock,
    find_policy: Callable[[], Policy] | None,
) -> grpc.aio.Server:
    """Return a server that isn't listening yet. Without a policy, every caller may do everything."""
    ingest = MessageIngest(store, channels, fingerprint_of)
    held = HeldMessages(store, channels, read_facts)
    guards = [AccessInterceptor(find_policy)] if find_policy else []
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), *guards], options=OPTIONS)
    message_ingest_pb2_grpc.add_MessageIngestServicer_to_server(IngestServicer(ingest, store), server)
    channel_directory_pb2_grpc.add_ChannelDirectoryServicer_to_server(
        DirectoryServicer(directory, passwords, signatures, ShimReports(clock)), server
    )
    message_feed_pb2_grpc.add_MessageFeedServicer_to_server(FeedServicer(feed, store, replays_started), server)
    message_archive_pb2_grpc.add_MessageArchiveServicer_to_server(ArchiveServicer(store, held, find_concerns), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME, "grpc.health.v1.Health"), server)
    return server
