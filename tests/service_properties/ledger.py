"""What everybody has seen who uses a store at the same time, and what none of them must see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.models import AckStatus, AckToken, ClaimedDelivery, Settlement, SettlementKind

LEASE_SECONDS = 10.0

Claim = tuple[str, AckToken]
"""A destination, and a token that it has given out."""


@dataclass
class Ledger:
    """What everybody has seen, and what must not be.

    Answers may come in another order than that in which the store gave them.
    """

    recorded: dict[str, str] = field(default_factory=dict)
    """The sender of each message."""
    claims: dict[Claim, ClaimedDelivery] = field(default_factory=dict)
    out: dict[tuple[str, int], ClaimedDelivery] = field(default_factory=dict)
    """By lane: what was claimed last and isn't settled."""
    ending: set[Claim] = field(default_factory=set)
    """What was asked to end; whether it did isn't known yet."""
    acknowledged: set[tuple[str, int]] = field(default_factory=set)
    first: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """By destination and sender: the live messages as they came first."""
    seen: set[tuple[str, int]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def note_claim(self, destination: str, delivery: ClaimedDelivery, sender: str) -> None:
        self.claims[destination, delivery.token] = delivery
        self._note_out(destination, delivery)
        if delivery.is_replayed:
            self.counts["replayed"] += 1
            return
        assert (destination, delivery.sequence) not in self.acknowledged, "what was acknowledged came again"
        if (destination, delivery.sequence) not in self.seen:
            self.seen.add((destination, delivery.sequence))
            self.first.setdefault((destination, sender), []).append(delivery.sequence)

    def _note_out(self, destination: str, delivery: ClaimedDelivery) -> None:
        lane = destination, delivery.token.lane
        other = self.out.get(lane)
        if other is None:
            self.out[lane] = delivery
            return
        before, after = sorted((other, delivery), key=lambda each: each.token.claim)
        if (destination, before.token) not in self.ending:
            claimed_at = after.deadline_at - round(LEASE_SECONDS * 1_000_000)
            assert before.deadline_at <= claimed_at, "two of a conversation are out"
            self.counts["expired"] += 1
        self.out[lane] = after

    def note_asked(self, destination: str, settlements: Sequence[Settlement]) -> None:
        self.ending |= {(destination, each.token) for each in settlements if each.kind is not SettlementKind.EXTEND}

    def note_settled(self, destination: str, settlement: Settlement, status: AckStatus) -> None:
        self.counts[f"{settlement.kind.value} {status.value}"] += 1
        if settlement.kind is SettlementKind.EXTEND:
            return  # how much later it ends needs no telling: that it ends no earlier does
        self.ending.discard((destination, settlement.token))
        delivery = self.claims[destination, settlement.token]
        if status is not AckStatus.OK:
            return
        if self.out.get((destination, settlement.token.lane)) is delivery:
            del self.out[destination, settlement.token.lane]
        if settlement.kind is SettlementKind.ACK and not delivery.is_replayed:
            self.acknowledged.add((destination, delivery.sequence))
