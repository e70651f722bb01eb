"""Tries quarantined requests again: the translation as it is today, then the usual ingest."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import GetChannelRequest
from aicc.mo.v1.message_archive_pb2 import GetQuarantinedRequest
from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_REJECTED,
    IngestRequest,
    IngestResult,
    QuarantinedRequest,
)
from aicc.mo.v1.message_pb2 import FieldViolation, MoMessage

from shim.cli.connection import Connection, find_violations
from shim.translation import TRANSLATORS
from shim.translation.forms import FormError, Violation, parse_form

# Failures of the connection, or of who calls: they would meet every entry.
_NOT_ABOUT_THE_ENTRY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of one entry. Unless it was rejected, it is no longer in quarantine."""

    entry_id: str
    message_sid: str
    result: IngestResult

    @property
    def is_settled(self) -> bool:
        """Whether it is now a stored message."""
        return self.result.outcome != INGEST_OUTCOME_REJECTED


class Retry:
    """Tries entries again over one connection."""

    def __init__(self, service: Connection) -> None:
        self._service = service
        self._infers: dict[str, bool] = {}

    async def retry(self, entry_id: str) -> Retried:
        """Try one entry again. What is still wrong with it is told with the names that its integrator uses."""
        request = GetQuarantinedRequest(entry_id=entry_id, include_text=True)
        try:
            response = await self._service.archive.GetQuarantined(request, timeout=self._service.timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return _rejected(entry_id, [Violation("entry_id", "is not in quarantine, or settled already")])
        entry = response.request
        try:
            message = translate(entry, infer_message_type=await self._infers_type(entry.channel_config_id))
        except FormError as error:
            return _rejected(entry_id, error.violations or [Violation("body", error.detail)])
        return await self._ingest(entry, message)

    async def _infers_type(self, channel_config_id: str) -> bool:
        """Return what the channel says today; False for one that is gone, whose messages are held."""
        if channel_config_id not in self._infers:
            request = GetChannelRequest(channel_config_id=channel_config_id)
            try:
                response = await self._service.directory.GetChannel(request, timeout=self._service.timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                return False
            self._infers[channel_config_id] = response.channel.infer_message_type
        return self._infers[channel_config_id]

    async def _ingest(self, entry: QuarantinedRequest, message: MoMessage) -> Retried:
        request = IngestRequest(message=message, quarantine_entry_id=entry.entry_id)
        try:
            response = await self._service.ingest.Ingest(request, timeout=self._service.timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOT_ABOUT_THE_ENTRY:
                raise
            # One entry that the service chokes on must not keep it from those after it.
            failure = ("", f"the service failed on it with {error.code().name}; its log tells why")
            found = find_violations(error) or [failure]
            return _rejected(entry.entry_id, [_as_sent(entry.integrator, *violation) for violation in found])
        return Retried(entry.entry_id, message.message_sid, response.result)


def translate(entry: QuarantinedRequest, *, infer_message_type: bool) -> MoMessage:
    """Translate a request as the shim does. Pure. Raises `FormError` when it still is no valid MO message."""
    translator = TRANSLATORS.get(entry.integrator)
    if translator is None:
        raise FormError("", [Violation("integrator", "has no translator here; retry with a newer mo, or discard it")])
    form = parse_form(entry.body)
    if translator.is_status_callback(form):
        raise FormError("", [Violation("MessageStatus", "makes it a status callback, which is no message: discard it")])
    received_at_ns: int = entry.receive_time.ToNanoseconds()
    return translator.to_message(form, entry.channel_config_id, received_at_ns, infer_message_type)


def _as_sent(integrator: str, field: str, description: str) -> Violation:
    """Name a field of the message as the integrator's parameter."""
    name = field.removeprefix("message.")
    return Violation(TRANSLATORS[integrator].parameter_names.get(name, name), description)


def _rejected(entry_id: str, violations: Iterable[Violation]) -> Retried:
    reasons = [FieldViolation(field=violation.field, description=violation.detail) for violation in violations]
    return Retried(entry_id, "", IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=reasons))
