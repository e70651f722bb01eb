"""Takes messages in: looks their channels up, routes them, records them."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from service import metrics
from service.errors import NotFound, Violation
from service.models import Decision, HoldReason, IncomingMessage, MessageFacts, Recorded, RoutedMessage
from service.routed_channels import RoutedChannel, RoutedChannels
from service.routing import Explanation, decide, explain
from service.store.contract import Store

log = logging.getLogger(__name__)


class IngestOutcome(enum.Enum):
    """What became of one message."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    HELD = "held"
    REJECTED = "rejected"


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
    """What would become of a message, and why."""

    decision: Decision
    explanations: Sequence[Explanation]


NO_FACTS = MessageFacts((), "")

NO_SUCH_CHANNEL = IngestResult(
    IngestOutcome.REJECTED, violations=(Violation("channel_config_id", "is no channel; create it, or mend the id"),)
)


class MessageIngest:
    """Takes messages in, whole batches in one transaction."""

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

    async def explain(self, channel_config_id: str, facts: MessageFacts, receiver: str) -> RouteExplained:
        """Tell where a message would go, and why. Raises `NotFound`."""
        found = (await self._channels.find([channel_config_id])).get(channel_config_id)
        if found is None:
            raise NotFound(f'no channel "{channel_config_id}"; see: mo channel list')
        return RouteExplained(decide(found.channel, found.routes, facts, receiver), explain(found.routes, facts))

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
    return [
        _result(entry.sequence, entry.is_duplicate, routed.decision.hold_reason)
        for entry, routed in zip(recorded, intake, strict=True)
    ]


def _result(sequence: int, is_duplicate: bool, hold_reason: HoldReason | None) -> IngestResult:
    if is_duplicate:
        return IngestResult(IngestOutcome.DUPLICATE, sequence)
    if hold_reason is not None:
        return IngestResult(IngestOutcome.HELD, sequence, hold_reason)
    return IngestResult(IngestOutcome.ACCEPTED, sequence)
