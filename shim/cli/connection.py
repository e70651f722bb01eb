"""The connection of one command to the service, and what its failures mean to the person."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from aicc.mo.v1.message_archive_pb2_grpc import MessageArchiveStub
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from shim.cli.identity import this_user
from shim.cli.usage import CommandError, Settings, settings
from shim.errors import StartError
from shim.service_channel import open_channel
from shim.service_handshake import find_tls_fault

_Result = TypeVar("_Result")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_OPTIONS = [
    # The service is an internal address: a proxy meant for the internet would only be in the way.
    ("grpc.enable_http_proxy", 0),
    # A page of long messages may pass gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
]


class _Signature(grpc.aio.UnaryUnaryClientInterceptor):
    """Says with each call who asks for it, as the service's audit log will."""

    def __init__(self, operator: str) -> None:
        self._operator = operator

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryUnaryCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> _Response | grpc.aio.UnaryUnaryCall[_Request, _Response]:
        metadata = client_call_details.metadata or grpc.aio.Metadata()
        metadata.add("mo-operator", self._operator)
        signed = grpc.aio.ClientCallDetails(
            client_call_details.method,
            client_call_details.timeout,
            metadata,
            client_call_details.credentials,
            client_call_details.wait_for_ready,
        )
        return await continuation(signed, request)


@dataclass(frozen=True)
class Connection:
    """The services, and how long one call may take."""

    channel: grpc.aio.Channel
    timeout: float

    @cached_property
    def directory(self) -> ChannelDirectoryStub:
        """Channels and routes."""
        return ChannelDirectoryStub(self.channel)

    @cached_property
    def ingest(self) -> MessageIngestStub:
        """The dry run of routes, and the retry of what was in quarantine."""
        return MessageIngestStub(self.channel)

    @cached_property
    def feed(self) -> MessageFeedStub:
        """Destinations and what waits in them."""
        return MessageFeedStub(self.channel)

    @cached_property
    def archive(self) -> MessageArchiveStub:
        """What was received, and what waits for an operator."""
        return MessageArchiveStub(self.channel)


def run(work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    """Do `work` over a connection to the service that the command line names.

    Raises `CommandError` for every failure of a call.
    """
    return asyncio.run(_run(work, settings()))


async def _run(work: Callable[[Connection], Awaitable[_Result]], chosen: Settings) -> _Result:
    signature = _Signature(chosen.operator or this_user())
    target = await _target(chosen.service)
    try:
        channel = open_channel(target, chosen.tls, options=_OPTIONS, interceptors=[signature])
    except StartError as error:
        raise CommandError(str(error)) from error
    async with channel:
        try:
            return await work(Connection(channel, chosen.timeout))
        except grpc.aio.AioRpcError as error:
            if channel.get_state() is not grpc.ChannelConnectivity.READY:
                await _explain_tls(error, target, chosen)
            is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
            lines = explain(error, service=chosen.service, is_connected=is_connected, timeout=chosen.timeout)
            raise CommandError(*lines) from error


async def _explain_tls(error: grpc.aio.AioRpcError, target: str, chosen: Settings) -> None:
    """Raise `CommandError` when TLS is why the service was not to be reached."""
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        fault = await find_tls_fault(target, chosen.tls)
        if fault:
            raise CommandError(f"no connection to the service at {chosen.service}: {fault}") from error


async def _target(service: str) -> str:
    """Return the gRPC target; several addresses are looked up here, since gRPC takes a list of numeric ones only."""
    if "," not in service:
        return service
    loop = asyncio.get_running_loop()
    found: list[str] = []
    family = socket.AF_UNSPEC
    for address in service.split(","):
        host, _, port = address.rpartition(":")
        try:
            infos = await loop.getaddrinfo(host.strip("[]"), port, family=family, type=socket.SOCK_STREAM)
        except OSError as error:
            text = f"{address}: {error.strerror}; every address in --service must be found, and of the same IP version"
            raise CommandError(text) from error
        # A list is of one family: that of its first address.
        family = infos[0][0]
        found += [f"[{info[4][0]}]:{port}" if family == socket.AF_INET6 else f"{info[4][0]}:{port}" for info in infos]
    return f"{'ipv6' if family == socket.AF_INET6 else 'ipv4'}:{','.join(found)}"


def explain(error: grpc.aio.AioRpcError, *, service: str, is_connected: bool, timeout: float) -> list[str]:
    """Say what a failed call means and what to do, in one line, or one a field when fields are at fault."""
    code = error.code()
    details = (error.details() or "").splitlines()
    if not is_connected and code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return [
            f"the service at {service} can't be reached; start it with mo-service, "
            "or say where it listens with --service HOST:PORT or the variable MO_SERVICE"
        ]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return [f"the service at {service} did not answer within {timeout:g} s; try again, or with a longer --timeout"]
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return [f"the service at {service} doesn't know this call: is it an mo-service, and as new as this mo?"]
    fields = find_violations(error)
    if fields:
        return [f"{field}: {description}" for field, description in fields]
    return [details[0] if details else f"the service at {service} failed with {code.name}; its log tells why"]


def find_violations(error: grpc.aio.AioRpcError) -> list[tuple[str, str]]:
    """Return each `google.rpc.BadRequest` violation: the field, and what is wrong with it."""
    found: list[tuple[str, str]] = []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        try:
            status = Status.FromString(value)
            for detail in status.details:
                request = BadRequest()
                if detail.Unpack(request):
                    found += [(violation.field, violation.description) for violation in request.field_violations]
        except DecodeError:
            return []
    return found
