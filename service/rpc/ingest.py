"""`MessageIngest` over gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from aicc.mo.v1 import message_ingest_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestServicer

from service import checks, metrics
from service.errors import InvalidRequest, Violation
from service.ingest import IngestOutcome, IngestResult, MessageIngest, Rejected
from service.models import IncomingMessage, QuarantinedRequest
from service.rpc.convert import HOLD_REASONS, facts_of
from service.store.contract import AsideStore

MOST_IN_A_BATCH = 1000
MOST_QUARANTINED_AT_ONCE = 100

OUTCOMES = {
    IngestOutcome.ACCEPTED: pb.INGEST_OUTCOME_ACCEPTED,
    IngestOutcome.DUPLICATE: pb.INGEST_OUTCOME_DUPLICATE,
    IngestOutcome.HELD: pb.INGEST_OUTCOME_HELD,
    IngestOutcome.REJECTED: pb.INGEST_OUTCOME_REJECTED,
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
        return pb.IngestResponse(result=_to_result(result))

    async def IngestBatch(self, request: pb.IngestBatchRequest, _context: Any) -> pb.IngestBatchResponse:
        count = len(request.messages)
        if not 1 <= count <= MOST_IN_A_BATCH:
            raise InvalidRequest([Violation("messages", f"must be 1 to {MOST_IN_A_BATCH}, not {count}")])
        results = await self._ingest.ingest(
            [to_incoming(message) for message in request.messages], is_recovered=request.is_from_journal
        )
        metrics.BATCH_MESSAGES.observe(count)
        for result in results:
            COUNTERS[result.outcome].inc()
        return pb.IngestBatchResponse(results=[_to_result(result) for result in results])

    async def Quarantine(self, request: pb.QuarantineRequest, _context: Any) -> pb.QuarantineResponse:
        checks.refuse(_check_quarantine(request.requests))
        await self._store.quarantine(
            [
                QuarantinedRequest(item.entry_id, item.channel_config_id, item.is_accepted, item.SerializeToString())
                for item in request.requests
            ]
        )
        metrics.QUARANTINED.inc(len(request.requests))
        return pb.QuarantineResponse()

    async def ExplainRoute(self, request: pb.ExplainRouteRequest, _context: Any) -> pb.ExplainRouteResponse:
        checks.refuse(
            Violation(f"message.{field}", text)
            for field, text in checks.check_channel_id(request.message.channel_config_id)
        )
        decision, explanations = await self._ingest.explain(
            request.message.channel_config_id, facts_of(request.message), request.message.receiver
        )
        return pb.ExplainRouteResponse(
            route_id=decision.route_id,
            route_revision=decision.route_revision,
            destinations=decision.destinations,
            hold_reason=HOLD_REASONS[decision.hold_reason],
            explanations=[
                pb.RouteExplanation(route_id=item.route_id, matched=not item.mismatches, mismatches=item.mismatches)
                for item in explanations
            ],
        )


def _check_quarantine(requests: Sequence[pb.QuarantinedRequest]) -> Iterator[Violation]:
    if not 1 <= len(requests) <= MOST_QUARANTINED_AT_ONCE:
        yield Violation("requests", f"must be 1 to {MOST_QUARANTINED_AT_ONCE}")
    for index, item in enumerate(requests[:MOST_QUARANTINED_AT_ONCE]):
        found = [*checks.check_name("entry_id", item.entry_id), *checks.check_channel_id(item.channel_config_id)]
        yield from (Violation(f"requests[{index}].{field}", text) for field, text in found)


def to_incoming(message: message_pb.MoMessage) -> IncomingMessage | Rejected:
    """Return a message as the service handles it, stamped if it wasn't; else what is wrong with its keys."""
    violations = checks.check_message_keys(
        message.channel_config_id, message.message_sid, message.sender, message.receiver
    )
    if violations:
        return Rejected(violations)
    if not message.HasField("receive_time"):
        message.receive_time.GetCurrentTime()
    return IncomingMessage(
        message.channel_config_id,
        message.message_sid,
        message.sender,
        message.receiver,
        partial(facts_of, message),
        message.SerializeToString(),
    )


def _to_result(result: IngestResult) -> pb.IngestResult:
    if not result.violations:
        return pb.IngestResult(
            outcome=OUTCOMES[result.outcome], sequence=result.sequence, hold_reason=HOLD_REASONS[result.hold_reason]
        )
    violations = [message_pb.FieldViolation(field=field, description=text) for field, text in result.violations]
    return pb.IngestResult(outcome=OUTCOMES[result.outcome], violations=violations)
