"""The shim's one connection to the service: the only module here that knows gRPC."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import (
    ChannelReplica,
    GetChannelReplicaRequest,
    WatchChannelsRequest,
    WatchChannelsResponse,
)
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from aicc.mo.v1.message_ingest_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestResult,
    QuarantinedRequest,
    QuarantineRequest,
    QuarantineResponse,
)
from aicc.mo.v1.message_pb2 import MoMessage

from shim.errors import ServiceFaultError, ServiceUnavailableError

BATCH_SECONDS = 2.0
"""The deadline of a batch. The service's own is 1.5 s, so that it is the one that says what was too slow."""
QUESTION_SECONDS = 0.5
SILENCE_SECONDS = 15.0
"""A watch that is silent for so long is dead: there is a heartbeat every 5 s."""

# What a call fails with when the service is away, slow or overloaded; everything else is a fault of ours.
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
_OPTIONS = (
    # A service that was restarted is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A link that swallows everything is noticed; the heartbeats keep the pings welcome.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The service is ours: no proxy of the environment stands in between.
    ("grpc.enable_http_proxy", 0),
    # Two shims in one process don't share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


def encode(message: MoMessage) -> bytes:
    """Encode a batch of one message. Concatenated encodings merge: joined, such batches are the batch of all."""
    return IngestBatchRequest(messages=[message]).SerializeToString()


def encode_quarantined(request: QuarantinedRequest) -> bytes:
    """Encode a `QuarantineRequest` of one request, to be joined like batches."""
    return QuarantineRequest(requests=[request]).SerializeToString()


FROM_JOURNAL = IngestBatchRequest(is_from_journal=True).SerializeToString()
"""What to join a batch with whose messages come out of the journal."""


class Link:
    """The calls that the shim makes."""

    def __init__(self, target: str) -> None:
        """Connect to a gRPC target, in the background and again and again."""
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._directory = ChannelDirectoryStub(self._channel)
        self._ingest_batch: grpc.aio.UnaryUnaryMultiCallable[bytes, IngestBatchResponse] = self._channel.unary_unary(
            "/aicc.mo.v1.MessageIngest/IngestBatch",
            request_serializer=None,  # the batch is encoded already
            response_deserializer=IngestBatchResponse.FromString,
        )
        self._quarantine: grpc.aio.UnaryUnaryMultiCallable[bytes, QuarantineResponse] = self._channel.unary_unary(
            "/aicc.mo.v1.MessageIngest/Quarantine",
            request_serializer=None,
            response_deserializer=QuarantineResponse.FromString,
        )

    async def send(self, batch: bytes) -> Sequence[IngestResult]:
        """Have an encoded `IngestBatchRequest` stored: one result a message, in order.

        Raises `ServiceUnavailableError` when that is not known to have happened within the deadline, and
        `ServiceFaultError` when the service refuses the batch as such.
        """
        try:
            response = await self._ingest_batch(batch, timeout=BATCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        return response.results

    async def quarantine(self, batch: bytes) -> None:
        """Have an encoded `QuarantineRequest` kept. Raises what `send` does."""
        try:
            await self._quarantine(batch, timeout=BATCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None

    async def watch(self, directory_id: str, after_revision: int) -> AsyncGenerator[WatchChannelsResponse, None]:
        """Follow the directory from that revision on, until the stream breaks or falls silent.

        It always ends with `ServiceUnavailableError` or `ServiceFaultError`.
        """
        request = WatchChannelsRequest(directory_id=directory_id, after_revision=after_revision)
        # Waits for the connection, so that it begins the moment that the service is there again.
        call = self._directory.WatchChannels(request, wait_for_ready=True)
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    response = await call.read()
                if not isinstance(response, WatchChannelsResponse):
                    raise ServiceUnavailableError("the service ended the stream")
                yield response
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        except TimeoutError:
            raise ServiceUnavailableError("the service fell silent") from None
        finally:
            call.cancel()

    async def ask(self, channel_config_id: str) -> ChannelReplica | None:
        """Return the channel as the service has it now; None when there is none and never was.

        Raises `ServiceUnavailableError` without an answer in half a second.
        """
        request = GetChannelReplicaRequest(channel_config_id=channel_config_id)
        try:
            response = await self._directory.GetChannelReplica(request, timeout=QUESTION_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        return response.channel if response.HasField("channel") else None

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()


def _translate(error: grpc.aio.AioRpcError) -> ServiceUnavailableError | ServiceFaultError:
    # The code alone: details could hold what is nobody's business.
    kind = ServiceUnavailableError if error.code() in _AWAY else ServiceFaultError
    return kind(error.code().name)
