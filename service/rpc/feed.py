"""`MessageFeed` over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb

from service import checks, metrics
from service.errors import InvalidRequest, Violation
from service.feed import MessageFeed, SettlementRequest
from service.feed.subscription import Outgoing, Subscription
from service.models import AckStatus, ClaimedDelivery, SettlementKind
from service.rpc.convert import seconds_of, to_timestamp
from service.rpc.dead_letters import DeadLetterCalls
from service.rpc.destinations import DestinationCalls
from service.rpc.replays import ReplayCalls
from service.signals import Signal
from service.store.contract import Store

MOST_OUTSTANDING = 10_000
MOST_OUTSTANDING_BYTES = 64 * 1024 * 1024
DEFAULT_OUTSTANDING = 100
DEFAULT_OUTSTANDING_BYTES = 16 * 1024 * 1024
MOST_AT_ONCE = 1000
DEFAULT_PULL = 100
LONGEST_LEASE_SECONDS = 600
LONGEST_WAIT_SECONDS = 60

STATUSES = {
    AckStatus.OK: message_pb.ACK_STATUS_OK,
    AckStatus.STALE: message_pb.ACK_STATUS_STALE,
    AckStatus.UNKNOWN: message_pb.ACK_STATUS_UNKNOWN,
}
COUNTERS = {status: metrics.SETTLED.labels(status.value) for status in AckStatus}

Results = Sequence[tuple[str, AckStatus]]


class FeedServicer(DestinationCalls, DeadLetterCalls, ReplayCalls):
    """Unwraps settlements, and wraps deliveries."""

    def __init__(self, feed: MessageFeed, store: Store, replays_changed: Signal) -> None:
        DestinationCalls.__init__(self, feed, store)
        DeadLetterCalls.__init__(self, store)
        ReplayCalls.__init__(self, store, replays_changed)
        self._feed = feed

    async def Subscribe(
        self, request_iterator: AsyncIterator[pb.SubscribeRequest], _context: Any
    ) -> AsyncIterator[pb.SubscribeResponse]:
        first = await anext(aiter(request_iterator), pb.SubscribeRequest())
        checks.refuse(_check_subscription(first))
        async with AsyncExitStack() as stack:
            consumer = await stack.enter_async_context(
                self._feed.subscribe(
                    first.destination,
                    messages=first.max_outstanding_messages or DEFAULT_OUTSTANDING,
                    size=first.max_outstanding_bytes or DEFAULT_OUTSTANDING_BYTES,
                    lease_seconds=_lease_of(first),
                )
            )
            metrics.CONSUMERS.inc()
            stack.callback(metrics.CONSUMERS.dec)
            subscription = Subscription(self._feed, first.destination, consumer)
            async with aclosing(subscription.run(_settlements(first, request_iterator))) as outgoings:
                async for outgoing in outgoings:
                    yield _to_response(outgoing)

    async def Pull(self, request: pb.PullRequest, _context: Any) -> pb.PullResponse:
        wait_seconds = seconds_of(request.wait)
        checks.refuse(
            [
                *checks.check_destination(request.destination),
                *_check_range("max_messages", request.max_messages, 0, MOST_AT_ONCE),
                *_check_range("wait", wait_seconds, 0, LONGEST_WAIT_SECONDS),
                *_check_lease(request),
            ]
        )
        deliveries = await self._feed.pull(
            request.destination,
            limit=request.max_messages or DEFAULT_PULL,
            wait_seconds=wait_seconds,
            lease_seconds=_lease_of(request),
        )
        metrics.DELIVERED.inc(len(deliveries))
        return pb.PullResponse(deliveries=[_to_delivery(delivery) for delivery in deliveries])

    async def Acknowledge(self, request: pb.AcknowledgeRequest, _context: Any) -> pb.AcknowledgeResponse:
        _check_settlement(request)
        results = await self._feed.settle(
            request.destination, [SettlementRequest(ack_id, SettlementKind.ACK) for ack_id in request.ack_ids]
        )
        return pb.AcknowledgeResponse(results=_to_results(results))

    async def ModifyAckDeadline(
        self, request: pb.ModifyAckDeadlineRequest, _context: Any
    ) -> pb.ModifyAckDeadlineResponse:
        seconds = seconds_of(request.ack_deadline)
        _check_settlement(request, *_check_range("ack_deadline", seconds, 0, LONGEST_LEASE_SECONDS))
        kind = SettlementKind.EXTEND if seconds else SettlementKind.NACK
        results = await self._feed.settle(
            request.destination, [SettlementRequest(ack_id, kind, seconds or None) for ack_id in request.ack_ids]
        )
        return pb.ModifyAckDeadlineResponse(results=_to_results(results))


async def _settlements(
    first: pb.SubscribeRequest, requests: AsyncIterator[pb.SubscribeRequest]
) -> AsyncIterator[Sequence[SettlementRequest]]:
    yield list(_settlements_of(first))
    async for request in requests:
        yield list(_settlements_of(request))


def _settlements_of(request: pb.SubscribeRequest) -> Iterator[SettlementRequest]:
    for ack_id in request.ack_ids:
        yield SettlementRequest(ack_id, SettlementKind.ACK)
    for nack in request.nacks:
        delay = seconds_of(nack.delay)
        checks.refuse(_check_range("nacks.delay", delay, 0, LONGEST_LEASE_SECONDS))
        yield SettlementRequest(nack.ack_id, SettlementKind.NACK, delay if nack.HasField("delay") else None)
    for extension in request.extensions:
        seconds = seconds_of(extension.ack_deadline)
        checks.refuse(_check_range("extensions.ack_deadline", seconds, 0.001, LONGEST_LEASE_SECONDS))
        yield SettlementRequest(extension.ack_id, SettlementKind.EXTEND, seconds)


def _check_subscription(first: pb.SubscribeRequest) -> Iterator[Violation]:
    yield from checks.check_destination(first.destination)
    yield from _check_range("max_outstanding_messages", first.max_outstanding_messages, 0, MOST_OUTSTANDING)
    yield from _check_range("max_outstanding_bytes", first.max_outstanding_bytes, 0, MOST_OUTSTANDING_BYTES)
    yield from _check_lease(first)


def _check_settlement(request: pb.AcknowledgeRequest | pb.ModifyAckDeadlineRequest, *further: Violation) -> None:
    violations = [*checks.check_destination(request.destination), *further]
    if not 1 <= len(request.ack_ids) <= MOST_AT_ONCE:
        violations.append(Violation("ack_ids", f"must be 1 to {MOST_AT_ONCE}"))
    if violations:
        raise InvalidRequest(violations)


def _check_lease(request: pb.SubscribeRequest | pb.PullRequest) -> Iterator[Violation]:
    if request.HasField("ack_deadline"):
        yield from _check_range("ack_deadline", seconds_of(request.ack_deadline), 1, LONGEST_LEASE_SECONDS)


def _check_range(field: str, value: float, least: float, most: float) -> Iterator[Violation]:
    if not least <= value <= most:
        yield Violation(field, f"must be {least:,} to {most:,}")


def _lease_of(request: pb.SubscribeRequest | pb.PullRequest) -> float | None:
    return seconds_of(request.ack_deadline) if request.HasField("ack_deadline") else None


def _to_response(outgoing: Outgoing) -> pb.SubscribeResponse:
    metrics.DELIVERED.inc(len(outgoing.deliveries))
    return pb.SubscribeResponse(
        deliveries=[_to_delivery(delivery) for delivery in outgoing.deliveries],
        ack_results=_to_results(outgoing.results),
    )


def _to_delivery(delivery: ClaimedDelivery) -> pb.Delivery:
    return pb.Delivery(
        ack_id=str(delivery.token),
        message=message_pb.MoMessage.FromString(delivery.payload),
        delivery_attempt=delivery.attempt,
        ack_deadline=to_timestamp(delivery.deadline_at),
        sequence=delivery.sequence,
        route_id=delivery.route_id,
        replayed=delivery.is_replayed,
    )


def _to_results(results: Results) -> list[pb.AckResult]:
    for _, status in results:
        COUNTERS[status].inc()
    return [pb.AckResult(ack_id=ack_id, status=STATUSES[status]) for ack_id, status in results]
