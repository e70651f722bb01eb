"""The shim's one connection to the service: the only module here that knows gRPC."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import Any

import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import (
    ChannelReplica,
    GetChannelReplicaRequest,
    ReportPasswordUsesRequest,
    ReportSignaturesRequest,
    SignatureResult,
    UpgradePasswordHashRequest,
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

from shim.channel import PasswordUse
from shim.errors import ServiceFaultError, ServiceUnavailableError, StartError
from shim.followed_files import FollowedFiles
from shim.lifetime import cancel, log_death
from shim.service_channel import open_channel
from shim.service_handshake import find_tls_fault
from shim.service_tls import ServiceTls
from shim.signature import Finding

_log = logging.getLogger(__name__)

BATCH_SECONDS = 2.0
"""The deadline of a batch. The service's own is 1.5 s, so that it is the one that says what was too slow."""
QUESTION_SECONDS = 0.5
REPORT_SECONDS = 2.0
SILENCE_SECONDS = 15.0
"""A watch that is silent for so long is dead: there is a heartbeat every 5 s."""

_MOST_DETAILS = 300
# What a call fails with when somebody has to give us a role, which no message must suffer from.
_REFUSALS = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
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
)


def encode_quarantined(request: QuarantinedRequest) -> bytes:
    """Encode a `QuarantineRequest` of one request, to be joined like batches."""
    return QuarantineRequest(requests=[request]).SerializeToString()


FROM_JOURNAL = IngestBatchRequest(is_from_journal=True).SerializeToString()
"""What to join a batch with whose messages come out of the journal."""


class _Calls:
    """One channel, and the calls over it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.directory = ChannelDirectoryStub(channel)
        self.ingest_batch: grpc.aio.UnaryUnaryMultiCallable[bytes, IngestBatchResponse] = channel.unary_unary(
            "/aicc.mo.v1.MessageIngest/IngestBatch",
            request_serializer=None,  # the batch is encoded already
            response_deserializer=IngestBatchResponse.FromString,
        )
        self.quarantine: grpc.aio.UnaryUnaryMultiCallable[bytes, QuarantineResponse] = channel.unary_unary(
            "/aicc.mo.v1.MessageIngest/Quarantine",
            request_serializer=None,
            response_deserializer=QuarantineResponse.FromString,
        )


class Link:
    """The calls that the shim makes, over a channel that is replaced when the files of its TLS change."""

    def __init__(self, target: str, tls: ServiceTls | None = None) -> None:
        """Connect to a gRPC target, in the background and again and again.

        Raises `StartError` when a file of the TLS can't be used.
        """
        self._target = target
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        files = FollowedFiles(tls.paths) if tls else None
        self._calls = self._connect()
        if files:
            self._run(self._follow(files))

    def _connect(self) -> _Calls:
        return _Calls(open_channel(self._target, self._tls, options=_OPTIONS))

    async def _follow(self, files: FollowedFiles) -> None:
        async for _ in files.changes():
            old = self._calls
            try:
                self._calls = self._connect()
            except StartError as error:
                _log.error("service_certificates_refused", extra={"reason": str(error), "action": "the old ones stay"})
                continue
            _log.info("service_certificates_reloaded")
            # What is under way there ends in its time; the watch has moved by then, or is dead.
            self._run(old.channel.close(2 * SILENCE_SECONDS))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_death)

    async def send(self, batch: bytes) -> Sequence[IngestResult]:
        """Have an encoded `IngestBatchRequest` stored: one result a message, in order.

        Raises `ServiceUnavailableError` when that is not known to have happened within the deadline, and
        `ServiceFaultError` when the service refuses the batch as such.
        """
        try:
            response = await self._calls.ingest_batch(batch, timeout=BATCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        return response.results

    async def quarantine(self, batch: bytes) -> None:
        """Have an encoded `QuarantineRequest` kept. Raises what `send` does."""
        try:
            await self._calls.quarantine(batch, timeout=BATCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None

    async def watch(self, directory_id: str, after_revision: int) -> AsyncGenerator[WatchChannelsResponse, None]:
        """Follow the directory from that revision on, until the stream breaks or falls silent.

        It always ends with `ServiceUnavailableError` or `ServiceFaultError`.
        """
        while True:
            calls = self._calls
            async with aclosing(_watch(calls, directory_id, after_revision)) as responses:
                try:
                    async for response in responses:
                        yield response
                        directory_id, after_revision = response.directory_id, response.revision
                        if response.caught_up and calls is not self._calls:
                            break  # the rest comes over the new channel
                except ServiceUnavailableError as error:
                    raise await self._explain(error) from None

    async def _explain(self, error: ServiceUnavailableError) -> ServiceUnavailableError:
        """Return the error, with what is wrong about TLS when that is why."""
        fault = await find_tls_fault(self._target, self._tls)
        return ServiceUnavailableError(f"{error}: {fault}") if fault else error

    async def ask(self, channel_config_id: str) -> ChannelReplica | None:
        """Return the channel as the service has it now; None when there is none and never was.

        Raises `ServiceUnavailableError` without an answer in half a second.
        """
        request = GetChannelReplicaRequest(channel_config_id=channel_config_id)
        try:
            response = await self._calls.directory.GetChannelReplica(request, timeout=QUESTION_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        return response.channel if response.HasField("channel") else None

    async def report_signatures(self, findings: Sequence[Finding]) -> None:
        """Have the service count what was found of signatures. Raises what `send` does."""
        try:
            await self._calls.directory.ReportSignatures(_to_report(findings), timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None

    async def report_password_uses(self, uses: Iterable[PasswordUse]) -> None:
        """Tell the service when passwords were used. Raises what `send` does."""
        request = ReportPasswordUsesRequest()
        for channel_config_id, password_id, used_at in uses:
            use = request.uses.add(channel_config_id=channel_config_id, password_id=password_id)
            use.use_time.FromMicroseconds(round(used_at * 1_000_000))
        try:
            await self._calls.directory.ReportPasswordUses(request, timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None

    async def upgrade_password_hash(self, channel_config_id: str, credential_revision: int, phc: str) -> bool:
        """Have a hash replaced by a stronger one; False when that isn't wanted any more. Raises what `send` does."""
        request = UpgradePasswordHashRequest(
            channel_config_id=channel_config_id, credential_revision=credential_revision, phc=phc
        )
        try:
            response = await self._calls.directory.UpgradePasswordHash(request, timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        return response.upgraded

    async def close(self) -> None:
        """Hang up."""
        for task in [*self._tasks]:
            await cancel(task)
        await self._calls.channel.close()


async def _watch(calls: _Calls, directory_id: str, after_revision: int) -> AsyncGenerator[WatchChannelsResponse, None]:
    request = WatchChannelsRequest(directory_id=directory_id, after_revision=after_revision)
    # Waits for the connection, so that it begins the moment that the service is there again.
    call = calls.directory.WatchChannels(request, wait_for_ready=True)
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


def _to_report(findings: Sequence[Finding]) -> ReportSignaturesRequest:
    report = ReportSignaturesRequest()
    for channel_config_id, of_channel in groupby(findings, key=attrgetter("channel_config_id")):
        channel = report.channels.add(channel_config_id=channel_config_id)
        for finding in of_channel:
            result = SignatureResult.Value(f"SIGNATURE_RESULT_{finding.verdict.name}")
            count = channel.counts.add(result=result, count=finding.count)
            count.last_time.FromMicroseconds(round(finding.last_at * 1_000_000))
    return report


def _translate(error: grpc.aio.AioRpcError) -> ServiceUnavailableError | ServiceFaultError:
    code = error.code()
    if code in _REFUSALS:
        # Which role is missing; nobody else's business is in it.
        return ServiceUnavailableError(f"{code.name}: {(error.details() or '')[:_MOST_DETAILS]}")
    # The code alone: details could hold what is nobody's business.
    kind = ServiceUnavailableError if code in _AWAY else ServiceFaultError
    return kind(code.name)
