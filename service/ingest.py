"""Takes messages in: looks their channels up, routes them, records them."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from service import metrics
from service.errors import NotFound, Violation
from service.models import (
    Assignment,
    AssignmentOutcome,
    ChannelState,
    Conversation,
    Decision,
    DeliveryKey,
    HoldReason,
    IncomingMessage,
    MessageFacts,
    MessageKey,
    Recorded,
    RoutedMessage,
)
from service.routed_channels import RoutedChannel, RoutedChannels
from service.routing import Explanation, decide, explain
from service.store.contract import Store

log = logging.getLogger(__name__)


class IngestOutcome(enum.StrEnum):
    """What became of one message."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    HELD = "held"
    REJECTED = "rejected"
    ERASED = "erased"


class IngestResult(NamedTuple):
    """What became of one message, and what goes with that."""

    outcome: IngestOutcome
    sequence: int = 0
    hold_reason: HoldReason | None = None
    violations: Sequence[Violation] = ()


class Rejected(NamedTuple):
    """An item that is no valid message."""

    violations: Sequence[Violation]


class RouteExplained(NamedTuple):
    """What would become of a message, and why. `assignment`: what has replaced the first destination."""

    decision: Decision
    explanations: Sequence[Explanation]
    assignment: Assignment | None


NO_FACTS = MessageFacts("", (), "")

NO_SUCH_CHANNEL = IngestResult(
    IngestOutcome.REJECTED, violations=(Violation("channel_config_id", "is no channel; create it, or mend the id"),)
)


class MessageIngest:
    """Takes messages in, whole batches in one transaction; tells and sets where conversations go."""

    def __init__(self, store: Store, channels: RoutedChannels, fingerprint: Callable[[bytes], bytes]) -> None:
        """`fingerprint` is the same for payloads that tell the same message."""
        self._store = store
        self._channels = channels
        self._fingerprint = fingerprint

    async def ingest(
        self,
        items: Sequence[IncomingMessage | Rejected],
        *,
        is_recovered: bool = False,
        quarantine_entry_id: str = "",
    ) -> Sequence[IngestResult]:
        """Record what is valid; one result an item, in order. Raises `StoreUnavailable`: repeat."""
        channels = await self._channels.find(
            {item.channel_config_id for item in items if isinstance(item, IncomingMessage)}
        )
        results: list[IngestResult | None] = []
        intake: list[RoutedMessage] = []
        for item in items:
            results.append(_reject(item, channels))
            if results[-1] is None and isinstance(item, IncomingMessage):
                channel, routes = channels[item.channel_config_id]
                facts = item.read_facts() if routes else NO_FACTS
                intake.append(RoutedMessage(item, decide(channel, routes, facts, item.receiver)))
        if not intake:
            return [result for result in results if result is not None]
        recorded = await self._store.record(intake, is_recovered=is_recovered, quarantine_entry_id=quarantine_entry_id)
        await self._keep_clashes(intake, recorded)
        outcomes = iter(_results(intake, recorded))
        return [next(outcomes) if result is None else result for result in results]

    async def explain(self, facts: MessageFacts, receiver: str) -> RouteExplained:
        """Tell where a message would go now, and why. Raises `NotFound`."""
        found = await self._load_channel(facts.channel_config_id)
        decision = decide(found.channel, found.routes, facts, receiver)
        explanations = explain(found.routes.routes, facts)
        conversation = Conversation(facts.channel_config_id, facts.sender)
        assignment = await self._store.find_assignment(conversation) if decision.hold_reason is None else None
        decision = decision.assigned(assignment) if assignment else decision
        return RouteExplained(decision, explanations, assignment)

    async def load_payload(self, key: MessageKey) -> bytes:
        """Return a stored message. Raises `NotFound`."""
        stored = await self._store.find_message(*key)
        if stored is None:
            raise NotFound(f'channel "{key.channel_config_id}" has no such message; see: mo message list')
        return stored.payload

    async def assign(
        self,
        conversation: Conversation,
        destination: str | None,
        *,
        ttl_seconds: float,
        ack: DeliveryKey | None,
        actor: str,
    ) -> AssignmentOutcome:
        """Let a conversation stay with a destination, or end that with None. Raises `NotFound`."""
        found = await self._load_channel(conversation.channel_config_id)
        if found.channel.state is ChannelState.DELETED:
            raise _no_such(conversation.channel_config_id)
        return await self._store.assign(conversation, destination, ttl_seconds=ttl_seconds, ack=ack, actor=actor)

    async def _load_channel(self, channel_config_id: str) -> RoutedChannel:
        found = (await self._channels.find([channel_config_id])).get(channel_config_id)
        if found is None:
            raise _no_such(channel_config_id)
        return found

    async def _keep_clashes(self, intake: Sequence[RoutedMessage], recorded: Sequence[Recorded]) -> None:
        """Compare duplicates with their firsts, and keep aside those that are other messages."""
        duplicates = [
            (entry.sequence, routed.message.payload)
            for entry, routed in zip(recorded, intake, strict=True)
            if entry.is_duplicate
        ]
        if not duplicates:
            return
        firsts = await self._store.load_payloads({sequence for sequence, _ in duplicates})
        for sequence, payload in duplicates:
            fingerprint = self._fingerprint(payload)
            if sequence in firsts and fingerprint != self._fingerprint(firsts[sequence]):
                metrics.CLASHES.inc()
                log.warning("clash", extra={"sequence": sequence})
                await self._store.keep_clash(sequence, fingerprint, payload)


def _reject(item: IncomingMessage | Rejected, channels: dict[str, RoutedChannel]) -> IngestResult | None:
    if isinstance(item, Rejected):
        return IngestResult(IngestOutcome.REJECTED, violations=item.violations)
    return None if item.channel_config_id in channels else NO_SUCH_CHANNEL


def _results(intake: Sequence[RoutedMessage], recorded: Sequence[Recorded]) -> Sequence[IngestResult]:
    return [_result(entry, routed.decision.hold_reason) for entry, routed in zip(recorded, intake, strict=True)]


def _result(recorded: Recorded, hold_reason: HoldReason | None) -> IngestResult:
    if recorded.is_erased:
        return IngestResult(IngestOutcome.ERASED)
    if recorded.is_duplicate:
        return IngestResult(IngestOutcome.DUPLICATE, recorded.sequence)
    if hold_reason is not None:
        return IngestResult(IngestOutcome.HELD, recorded.sequence, hold_reason)
    return IngestResult(IngestOutcome.ACCEPTED, recorded.sequence)


def _no_such(channel_config_id: str) -> NotFound:
    return NotFound(f'no channel "{channel_config_id}"; see: mo channel list')
