"""Deliveries: claimed, settled, and where they wait."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from service.models.messages import DeliveryAttempt, MessageKey


class AckToken(NamedTuple):
    """Fences a settlement to one claim of one delivery: the claims of a lane are numbered, and never anew."""

    lane: int
    claim: int

    @classmethod
    def parse(cls, ack_id: str) -> Self | None:
        """Read what `str` wrote; None when it is no ack id of ours."""
        parts = ack_id.split(".")
        if len(ack_id) > 40 or len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            return None
        numbers = [int(part) for part in parts]
        return cls(*numbers) if max(numbers) < 2**63 else None

    def __str__(self) -> str:
        return f"{self.lane}.{self.claim}"


class DeliveryKey(NamedTuple):
    """A delivery that is out."""

    destination: str
    token: AckToken


class ClaimedDelivery(NamedTuple):
    """One message for one destination, leased until `deadline_at`."""

    token: AckToken
    payload: bytes
    attempt: int
    deadline_at: int
    sequence: int
    route_id: str
    is_replayed: bool = False


class Claimed(NamedTuple):
    """The result of a claim. `next_due_at`: when the next delivery could be claimed, None for never."""

    deliveries: Sequence[ClaimedDelivery]
    next_due_at: int | None


class AckStatus(enum.StrEnum):
    """What a settlement did."""

    OK = "ok"
    STALE = "stale"
    UNKNOWN = "unknown"


class SettlementKind(enum.StrEnum):
    """What is to become of a delivery."""

    ACK = "ack"
    NACK = "nack"
    EXTEND = "extend"
    BREAK = "break"
    """The consumer is gone: a failed attempt."""
    RETURN = "return"
    """Nobody has looked at it: no attempt at all."""


class Settlement(NamedTuple):
    """What becomes of a delivery. `seconds`: the delay of a nack (None: the back-off), the lease of an extension."""

    token: AckToken
    kind: SettlementKind
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DestinationSettings:
    """How a destination delivers; see `DestinationSettings` of the contract."""

    ack_deadline_seconds: float = 60.0
    max_attempts: int = 10
    min_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 60.0
    backoff_jitter: float = 0.2
    is_ordered: bool = True
    retention_seconds: float = 30 * 86_400.0

    def backoff_seconds(self, failed_attempts: int, chance: float) -> float:
        """Return how long to wait after so many failed attempts. `chance`, in [0, 1): how much of the jitter counts."""
        doubled = self.min_backoff_seconds * 2.0 ** min(failed_attempts - 1, 60)
        return min(doubled, self.max_backoff_seconds) * (1 - self.backoff_jitter * chance)


class DestinationStatus(NamedTuple):
    """A destination and what waits in it, or did when it was counted."""

    name: str
    backlog: int
    leased: int
    oldest_committed_at: int | None
    dead_letters: int
    settings: DestinationSettings
    counted_at: int


class AssignmentOutcome(NamedTuple):
    """What an assignment did: how many deliveries move, until when it holds, what became of the ack."""

    moved: int
    expires_at: int | None
    ack_status: AckStatus | None


class DeadLetter(NamedTuple):
    """A message that was given up for one destination."""

    number: int
    destination: str
    payload: bytes
    sequence: int
    dead_at: int
    reason: str
    attempts: Sequence[DeliveryAttempt]
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Which dead letters: what is set must all hold; nothing set means all."""

    destination: str | None = None
    keys: tuple[MessageKey, ...] = ()
    channel_config_id: str | None = None


class SettledPage(NamedTuple):
    """How many of a page were settled. `next_after`: where the next page starts, None on the last."""

    settled: int
    next_after: int | None


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """Which stored messages to replay; what is None lets everything through."""

    start_at: int | None = None
    end_at: int | None = None
    channel_config_id: str | None = None
    sender: str | None = None
    route_id: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay, and how far it is."""

    replay_id: str
    destination: str
    selection: ReplaySelection
    max_rate: int
    requested_by: str
    started_at: int = 0
    ended_at: int | None = None
    total: int = 0
    queued: int = 0
    is_cancelled: bool = False


class ReplayPage(NamedTuple):
    """Replays, newest first. `next_before`: where the next page starts, None on the last."""

    replays: Sequence[Replay]
    next_before: int | None
