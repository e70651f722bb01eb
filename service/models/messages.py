"""Messages, and what was decided about them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class HoldReason(enum.StrEnum):
    """Why a message is stored but not handed to anybody."""

    UNROUTED = "UNROUTED"
    CHANNEL_PAUSED = "CHANNEL_PAUSED"
    CHANNEL_DISABLED = "CHANNEL_DISABLED"
    CHANNEL_DELETED = "CHANNEL_DELETED"
    RECIPIENT_MISMATCH = "RECIPIENT_MISMATCH"


class MessageFacts(NamedTuple):
    """What routes look at."""

    channel_config_id: str
    type_names: tuple[str, ...]
    sender: str
    received_at: int = 0
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
    received_at: int
    read_facts: Callable[[], MessageFacts]
    payload: bytes


class AssignmentReason(enum.StrEnum):
    """What a conversation stays with a destination for."""

    ASSIGNED = "ASSIGNED"
    AFFINITY = "AFFINITY"


class Assignment(NamedTuple):
    """Where a conversation stays until `expires_at`."""

    destination: str
    assigned_at: int
    expires_at: int
    reason: AssignmentReason


class Decision(NamedTuple):
    """Where a message goes: held for a reason, or to its destinations.

    The first destination converses with the sender, so an assignment of the conversation replaces it
    (`assignment_reason`); the others get copies. `affinity_seconds`: how long the conversation is to stay there.
    """

    destinations: tuple[str, ...]
    hold_reason: HoldReason | None = None
    route_id: str = ""
    route_revision: int = 0
    assignment_reason: AssignmentReason | None = None
    affinity_seconds: int = 0

    def assigned(self, assignment: Assignment) -> Decision:
        """Return the decision with the assignment in force."""
        others = [name for name in self.destinations[1:] if name != assignment.destination]
        return self._replace(destinations=(assignment.destination, *others), assignment_reason=assignment.reason)


class RoutedMessage(NamedTuple):
    """A message with its decision, ready to be recorded."""

    message: IncomingMessage
    decision: Decision


class Recorded(NamedTuple):
    """What became of a recorded message.

    `sequence` is the first one's for a duplicate, and 0 for a message whose sender was erased since it was received.
    """

    sequence: int
    is_duplicate: bool = False
    is_erased: bool = False


class AttemptOutcome(enum.StrEnum):
    """How an attempt to deliver ended that failed."""

    NACKED = "NACKED"
    EXPIRED = "EXPIRED"
    STREAM_BROKEN = "STREAM_BROKEN"


class DeliveryAttempt(NamedTuple):
    """One failed attempt."""

    number: int
    started_at: int
    ended_at: int
    outcome: AttemptOutcome


class DeliveryState(enum.Enum):
    """How far a delivery is."""

    WAITING = "waiting"
    LEASED = "leased"
    ACKNOWLEDGED = "acknowledged"
    DEAD_LETTERED = "dead-lettered"
    DISCARDED = "discarded"


class DeliveryStatus(NamedTuple):
    """How far a message is with one destination. `attempts` counts the one that is out or was acknowledged, too."""

    destination: str
    state: DeliveryState
    attempts: int
    delivered_at: int | None = None
    settled_at: int | None = None
    failed_attempts: Sequence[DeliveryAttempt] = ()


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
        if all(delivery.settled_at is not None for delivery in self.deliveries):
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


class Conversation(NamedTuple):
    """What is kept in order."""

    channel_config_id: str
    sender: str


class MessageKey(NamedTuple):
    """What identifies a message."""

    channel_config_id: str
    message_sid: str
