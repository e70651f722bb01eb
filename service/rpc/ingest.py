"""`MessageIngest` over gRPC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from time import time_ns
from typing import Any

from aicc.mo.v1 import message_ingest_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestServicer
from google.protobuf.timestamp_pb2 import Timestamp

from service import checks, metrics
from service.errors import InvalidRequest, Violation
from service.ingest import IngestOutcome, IngestResult, MessageIngest, Rejected
from service.models import (
    AckStatus,
    AckToken,
    Assignment,
    Conversation,
    DeliveryKey,
    IncomingMessage,
    MessageKey,
)
from service.rpc.actors import actor_of
from service.rpc.convert import (
    ASSIGNMENT_REASONS,
    HOLD_REASONS,
    from_timestamp,
    seconds_of,
    to_quarantined,
    to_timestamp,
)
from service.rpc.convert_routes import facts_of
from service.rpc.feed import STATUSES
from service.store.contract import AsideStore

MOST_IN_A_BATCH = 1000
MOST_QUARANTINED_AT_ONCE = 100
DEFAULT_TTL_SECONDS = 24 * 3600
LONGEST_TTL_SECONDS = 30 * 24 * 3600
END_OF_TIME = 253_402_300_800
"""The year 10000, in seconds since 1970."""

OUTCOMES = {
    IngestOutcome.ACCEPTED: pb.INGEST_OUTCOME_ACCEPTED,
    IngestOutcome.DUPLICATE: pb.INGEST_OUTCOME_DUPLICATE,
    IngestOutcome.HELD: pb.INGEST_OUTCOME_HELD,
    IngestOutcome.REJECTED: pb.INGEST_OUTCOME_REJECTED,
    IngestOutcome.ERASED: pb.INGEST_OUTCOME_ERASED,
}
COUNTERS = {outcome: metrics.INGESTED.labels(outcome.value) for outcome in IngestOutcome}


class IngestServicer(MessageIngestServicer):
    """Unwraps messages, and wraps what became of them."""

    def __init__(self, ingest: MessageIngest, store: AsideStore) -> None:
        self._ingest = ingest
        self._store = store

    async def Ingest(self, request: pb.IngestRequest, _context: Any) -> pb.IngestResponse:
        (result,) = await self._ingest.ingest(
            [to_incoming(request.message)], quarantine_entry_id=request.quarantine_entry_id
        )
        COUNTERS[result.outcome].inc()
        if result.outcome is IngestOutcome.REJECTED:
            raise InvalidRequest([Violation(f"message.{field}", text) for field, text in result.violations])
        response = pb.IngestResponse()
        _fill(response.result, result)
        return response

    async def IngestBatch(self, request: pb.IngestBatchRequest, _context: Any) -> pb.IngestBatchResponse:
        count = len(request.messages)
        if not 1 <= count <= MOST_IN_A_BATCH:
            raise InvalidRequest([Violation("messages", f"must be 1 to {MOST_IN_A_BATCH}, not {count}")])
        results = await self._ingest.ingest(
            [to_incoming(message) for message in request.messages], is_recovered=request.is_from_journal
        )
        metrics.BATCH_MESSAGES.observe(count)
        for outcome, times in Counter([result.outcome for result in results]).items():
            COUNTERS[outcome].inc(times)
        response = pb.IngestBatchResponse()
        for result in results:
            _fill(response.results.add(), result)
        return response

    async def Quarantine(self, request: pb.QuarantineRequest, _context: Any) -> pb.QuarantineResponse:
        checks.refuse(_check_quarantine(request.requests))
        erased = await self._store.quarantine([to_quarantined(item) for item in request.requests])
        metrics.QUARANTINED.inc(len(request.requests) - erased)
        metrics.QUARANTINE_ERASED.inc(erased)
        return pb.QuarantineResponse()

    async def ExplainRoute(self, request: pb.ExplainRouteRequest, _context: Any) -> pb.ExplainRouteResponse:
        checks.refuse(_check_explanation(request))
        message = await self._load(request.key) if request.HasField("key") else request.message
        if not message.HasField("receive_time"):
            message.receive_time.GetCurrentTime()
        decision, explanations, assignment = await self._ingest.explain(facts_of(message), message.receiver)
        return pb.ExplainRouteResponse(
            route_id=decision.route_id,
            route_revision=decision.route_revision,
            destinations=decision.destinations,
            hold_reason=HOLD_REASONS[decision.hold_reason],
            explanations=[
                pb.RouteExplanation(route_id=item.route_id, matched=not item.mismatches, mismatches=item.mismatches)
                for item in explanations
            ],
            assignment=_to_assignment(assignment) if assignment else None,
        )

    async def AssignConversation(
        self, request: pb.AssignConversationRequest, context: Any
    ) -> pb.AssignConversationResponse:
        checks.refuse(_check_assignment(request))
        token = AckToken.parse(request.ack_id)
        moved, expires_at, ack_status = await self._ingest.assign(
            Conversation(request.channel_config_id, request.sender),
            request.destination or None,
            ttl_seconds=_ttl_of(request),
            ack=DeliveryKey(request.ack_destination, token) if token else None,
            actor=actor_of(context),
        )
        if request.ack_id and not token:
            ack_status = AckStatus.UNKNOWN
        return pb.AssignConversationResponse(
            moved=moved,
            expire_time=None if expires_at is None else to_timestamp(expires_at),
            ack_status=STATUSES[ack_status] if ack_status else message_pb.ACK_STATUS_UNSPECIFIED,
        )

    async def _load(self, key: message_pb.MessageKey) -> message_pb.MoMessage:
        payload = await self._ingest.load_payload(MessageKey(key.channel_config_id, key.message_sid))
        return message_pb.MoMessage.FromString(payload)


def _check_explanation(request: pb.ExplainRouteRequest) -> Iterator[Violation]:
    if request.HasField("message") == request.HasField("key"):
        yield Violation("message", "give either a message, or the key of a stored one")
        return
    field = "key" if request.HasField("key") else "message"
    found = checks.check_channel_id(getattr(request, field).channel_config_id)
    yield from (Violation(f"{field}.{name}", text) for name, text in found)
    if field == "key" and not request.key.message_sid:
        yield Violation("key.message_sid", "is required")
    if field == "message":
        yield from (Violation(f"message.{name}", text) for name, text in _check_time(request.message.receive_time))


def _check_assignment(request: pb.AssignConversationRequest) -> Iterator[Violation]:
    yield from checks.check_channel_id(request.channel_config_id)
    yield from checks.check_sender(request.sender)
    if request.destination:
        yield from checks.check_destination(request.destination)
    if not 1 <= _ttl_of(request) <= LONGEST_TTL_SECONDS:
        yield Violation("ttl", "must be 1 s to 30 days")
    if request.ack_id or request.ack_destination:
        yield from checks.check_destination(request.ack_destination, "ack_destination")
    if request.ack_destination and not request.ack_id:
        yield Violation("ack_id", "is required with ack_destination")


def _ttl_of(request: pb.AssignConversationRequest) -> float:
    return seconds_of(request.ttl) if request.HasField("ttl") else DEFAULT_TTL_SECONDS


def _to_assignment(assignment: Assignment) -> message_pb.Assignment:
    return message_pb.Assignment(
        destination=assignment.destination,
        assign_time=to_timestamp(assignment.assigned_at),
        expire_time=to_timestamp(assignment.expires_at),
        reason=ASSIGNMENT_REASONS[assignment.reason],
    )


def _check_quarantine(requests: Sequence[pb.QuarantinedRequest]) -> Iterator[Violation]:
    if not 1 <= len(requests) <= MOST_QUARANTINED_AT_ONCE:
        yield Violation("requests", f"must be 1 to {MOST_QUARANTINED_AT_ONCE}")
    for index, item in enumerate(requests[:MOST_QUARANTINED_AT_ONCE]):
        found = [*checks.check_name("entry_id", item.entry_id), *checks.check_channel_id(item.channel_config_id)]
        yield from (Violation(f"requests[{index}].{field}", text) for field, text in found)


def to_incoming(message: message_pb.MoMessage) -> IncomingMessage | Rejected:
    """Return a message as the service handles it, stamped if it wasn't; else what is wrong with its keys or time."""
    keys = (message.channel_config_id, message.message_sid, message.sender, message.receiver)
    time = message.receive_time
    if violations := (*checks.check_message_keys(*keys), *_check_time(time)):
        return Rejected(violations)
    if not message.HasField("receive_time"):
        time.seconds, time.nanos = divmod(time_ns(), 1_000_000_000)
    return IncomingMessage(*keys, from_timestamp(time), partial(facts_of, message), message.SerializeToString())


def _check_time(time: Timestamp) -> Sequence[Violation]:
    """Refuse a time that no store can keep: it must not fail the messages beside it."""
    if 0 <= time.seconds < END_OF_TIME and 0 <= time.nanos < 1_000_000_000:
        return ()
    return [Violation("receive_time", "must be a time from 1970 to 9999")]


def _fill(wrapped: pb.IngestResult, result: IngestResult) -> None:
    """Fill a result in its response: one that is made by itself would be copied there."""
    wrapped.outcome = OUTCOMES[result.outcome]
    wrapped.sequence = result.sequence
    if result.hold_reason:
        wrapped.hold_reason = HOLD_REASONS[result.hold_reason]
    for field, text in result.violations:
        wrapped.violations.add(field=field, description=text)
