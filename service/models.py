"""What the service speaks of: frozen records, standard library only.

Every `…_at` is in microseconds since 1970 in UTC, as an integer. What is made
once a message is a `NamedTuple`, because that is the cheapest frozen record.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self


class ChannelState(enum.StrEnum):
    """Whether a channel lets callers in."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    PAUSED = "PAUSED"
    DELETED = "DELETED"


class HoldReason(enum.StrEnum):
    """Why a message is stored but not handed to anybody."""

    UNROUTED = "UNROUTED"
    CHANNEL_PAUSED = "CHANNEL_PAUSED"
    CHANNEL_DISABLED = "CHANNEL_DISABLED"
    CHANNEL_DELETED = "CHANNEL_DELETED"
    RECIPIENT_MISMATCH = "RECIPIENT_MISMATCH"


@dataclass(frozen=True, slots=True)
class Route:
    """A rule that sends messages to destinations.

    Everything that is set must match; the items of a tuple are alternatives; a
    route with nothing set matches every message.
    """

    route_id: str
    destinations: tuple[str, ...]
    message_types: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    body_pattern: str | None = None
    sender_prefixes: tuple[str, ...] = ()
    button_payloads: tuple[str, ...] = ()
    is_reply: bool | None = None
    has_referral: bool | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may call a channel. Both hashes share salt and parameters: one computation checks both."""

    webhook_user: str
    password_hash: str = field(repr=False)
    previous_password_hash: str | None = field(default=None, repr=False)
    previous_password_expires_at: int | None = None
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as stored. `revision` is the directory's when it last changed."""

    channel_config_id: str
    provider: str
    credentials: Credentials
    number: str = ""
    state: ChannelState = ChannelState.ENABLED
    destination: str | None = None
    infer_message_type: bool = False
    routes: tuple[Route, ...] = ()
    route_revision: int = 0
    revision: int = 0
    created_at: int = 0
    updated_at: int = 0


class DirectoryPosition(NamedTuple):
    """Which directory, and how far: revisions compare within one directory only."""

    directory_id: str
    revision: int


class MessageFacts(NamedTuple):
    """What routes look at."""

    type_names: tuple[str, ...]
    sender: str
    body: str | None = None
    button_payload: str | None = None
    is_reply: bool = False
    has_referral: bool = False


class IncomingMessage(NamedTuple):
    """A message as it came in. `payload` is the whole MoMessage, serialised.

    `read_facts` is called where a channel has routes, and only there.
    """

    channel_config_id: str
    message_sid: str
    sender: str
    receiver: str
    read_facts: Callable[[], MessageFacts]
    payload: bytes


class Decision(NamedTuple):
    """Where a message goes: held for a reason, or to its destinations."""

    destinations: tuple[str, ...]
    hold_reason: HoldReason | None = None
    route_id: str = ""
    route_revision: int = 0


class RoutedMessage(NamedTuple):
    """A message with its decision, ready to be recorded."""

    message: IncomingMessage
    decision: Decision


class Recorded(NamedTuple):
    """What became of a recorded message. `sequence` is the first one's for a duplicate."""

    sequence: int
    is_duplicate: bool = False


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


class ClaimedDelivery(NamedTuple):
    """One message for one destination, leased until `deadline_at`."""

    token: AckToken
    payload: bytes
    attempt: int
    deadline_at: int
    sequence: int
    route_id: str


class Claimed(NamedTuple):
    """The result of a claim. `next_due_at`: when the next delivery could be claimed, None for never."""

    deliveries: Sequence[ClaimedDelivery]
    next_due_at: int | None


class AckStatus(enum.Enum):
    """What a settlement did."""

    OK = "ok"
    STALE = "stale"
    UNKNOWN = "unknown"


class SettlementKind(enum.Enum):
    """What is to become of a delivery."""

    ACK = "ack"
    NACK = "nack"
    EXTEND = "extend"


class Settlement(NamedTuple):
    """What a consumer says of a delivery. `seconds`: the delay of a nack, the lease of an extension."""

    token: AckToken
    kind: SettlementKind
    seconds: float = 0.0


class DestinationStatus(NamedTuple):
    """A destination and what waits in it."""

    name: str
    backlog: int
    leased: int
    oldest_committed_at: int | None


class DeliveryStatus(NamedTuple):
    """How far a message is with one destination."""

    destination: str
    attempts: int
    acknowledged_at: int | None


class MessageState(enum.Enum):
    """What has become of a message."""

    PENDING = "pending"
    DELIVERED = "delivered"
    HELD = "held"
    DISCARDED = "discarded"


class StoredMessage(NamedTuple):
    """A message as stored, with its life so far."""

    sequence: int
    payload: bytes
    committed_at: int
    decision: Decision
    deliveries: Sequence[DeliveryStatus]
    discarded_at: int | None = None

    @property
    def state(self) -> MessageState:
        """Held or discarded, else pending until every destination has acknowledged it."""
        if self.discarded_at is not None:
            return MessageState.DISCARDED
        if self.decision.hold_reason is not None:
            return MessageState.HELD
        if all(delivery.acknowledged_at is not None for delivery in self.deliveries):
            return MessageState.DELIVERED
        return MessageState.PENDING


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages to list; what is None lets everything through."""

    channel_config_id: str | None = None
    sender: str | None = None
    start_at: int | None = None
    end_at: int | None = None
    destination: str | None = None
    state: MessageState | None = None


class MessagePage(NamedTuple):
    """Messages, newest first. `next_before`: the sequence that the next page ends before, None on the last."""

    messages: Sequence[StoredMessage]
    next_before: int | None


class ChannelChanges(NamedTuple):
    """What changed in the directory, oldest first, and where that leaves the reader."""

    channels: Sequence[Channel]
    position: DirectoryPosition
    caught_up: bool


class MessageKey(NamedTuple):
    """What identifies a message."""

    channel_config_id: str
    message_sid: str


@dataclass(frozen=True, slots=True)
class HeldSelection:
    """Which held messages: these, else those that channel and reason let through."""

    keys: tuple[MessageKey, ...] = ()
    channel_config_id: str | None = None
    hold_reason: HoldReason | None = None


class HeldMessage(NamedTuple):
    """A held message, and what is needed to route it anew."""

    sequence: int
    channel_config_id: str
    payload: bytes


class Release(NamedTuple):
    """Where a held message goes now."""

    sequence: int
    decision: Decision


class Clash(NamedTuple):
    """Another message that came with the id of a stored one."""

    payload: bytes
    committed_at: int


class QuarantinedRequest(NamedTuple):
    """A request that is no valid MO message. `payload` is all of it, serialised.

    `is_accepted`: the provider was told that we have it, so it stays until an operator settles it.
    """

    entry_id: str
    channel_config_id: str
    is_accepted: bool
    payload: bytes


class QuarantinePage(NamedTuple):
    """Quarantined requests, newest first. `next_before`: where the next page starts, None on the last."""

    payloads: Sequence[bytes]
    next_before: int | None


class ChannelActivity(NamedTuple):
    """What came in on a channel."""

    channel_config_id: str
    last_message_at: int | None
    messages: int
    recovered: int
    clashes: int


class Summary(NamedTuple):
    """How the store stands."""

    held: int
    quarantined: int
    channels: Sequence[ChannelActivity]
