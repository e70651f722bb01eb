"""The life of a message, from its receipt on, in the order of time. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_feed_pb2 import DeadLetter
from aicc.mo.v1.message_pb2 import ASSIGNMENT_REASON_AFFINITY, AttemptOutcome, HoldReason
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.stored_message import type_text
from shim.cli.texts import enum_text, time_text

_BY_HAND = "by an operator: see mo audit list"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a message; without a time: how it is now."""

    name: str
    time: Timestamp | None = None
    destination: str = ""
    details: str = ""

    def to_json(self) -> dict[str, str | None]:
        """Return one object for a line of JSON."""
        time = self.time.ToJsonString() if self.time else None
        return {"time": time, "event": self.name, "destination": self.destination, "details": self.details}

    def to_row(self) -> list[str]:
        """Return one row of a table."""
        return [time_text(self.time) or "now", self.name, self.destination, self.details]


def life(message: pb.StoredMessage, dead_letters: Iterable[DeadLetter]) -> list[Event]:
    """Return what happened, oldest first, and then how it is now."""
    events = [*_intake(message), *_clashes(message)]
    for delivery in message.deliveries:
        events += _delivery(delivery)
    events += (_dead_letter(item) for item in dead_letters)
    # Sorting is stable: what happened at one time stays in the order of cause and effect.
    past = sorted((event for event in events if event.time), key=_nanoseconds)
    return [*past, *(event for event in events if not event.time)]


def _nanoseconds(event: Event) -> int:
    time: int = (event.time or Timestamp()).ToNanoseconds()
    return time


def _intake(message: pb.StoredMessage) -> Iterator[Event]:
    sent = message.message
    yield Event("received", sent.receive_time, details=f"{type_text(sent)} from {sent.sender} to {sent.receiver}")
    yield Event("stored", message.commit_time, details=f"sequence {message.sequence}")
    yield Event("routed", message.commit_time, details=_route_text(message))
    if message.state == pb.MESSAGE_STATE_HELD:
        yield Event("held", details=enum_text(HoldReason.Name(message.hold_reason), "HOLD_REASON_"))
    if message.state == pb.MESSAGE_STATE_DISCARDED and not message.deliveries:
        yield Event("discarded", details=_BY_HAND)


def _route_text(message: pb.StoredMessage) -> str:
    """Say which route of which revision it took, and why that isn't all."""
    revision = f"(revision {message.route_revision})"
    text = f'by route "{message.route_id}" {revision}' if message.route_id else f"no route matched {revision}"
    names = [delivery.destination for delivery in message.deliveries]
    if names:
        text += f": to {', '.join(names)}"
    if message.assignment_reason == ASSIGNMENT_REASON_AFFINITY:
        return f"{text}; the conversation stays where it was routed"
    if message.assignment_reason:
        return f"{text}; the conversation was assigned there"
    return text


def _clashes(message: pb.StoredMessage) -> Iterator[Event]:
    for clash in message.clashes:
        details = f"another message with this id, from {clash.message.sender}: kept aside, delivered to nobody"
        yield Event("clash", clash.commit_time, details=details)


def _delivery(delivery: pb.DeliveryStatus) -> Iterator[Event]:
    """Yield what happened with one destination; a failed attempt is two events."""
    to = delivery.destination
    for attempt in delivery.failed_attempts:
        number = f"attempt {attempt.number}"
        yield Event("handed out", attempt.start_time, to, number)
        outcome = enum_text(AttemptOutcome.Name(attempt.outcome), "ATTEMPT_OUTCOME_")
        yield Event(outcome, attempt.end_time, to, f"{number} failed")
    if _is_out_beyond(delivery):
        is_counted = delivery.state in {pb.DELIVERY_STATE_LEASED, pb.DELIVERY_STATE_ACKNOWLEDGED}
        number = f"attempt {delivery.delivery_attempts}" if is_counted else "went back uncounted"
        yield Event("handed out", delivery.deliver_time, to, number)
    yield from _outcome(delivery)


def _is_out_beyond(delivery: pb.DeliveryStatus) -> bool:
    """Tell whether it was handed out after its last failed attempt began."""
    starts: Sequence[int] = [attempt.start_time.ToNanoseconds() for attempt in delivery.failed_attempts]
    last: int = delivery.deliver_time.ToNanoseconds()
    return delivery.HasField("deliver_time") and all(start < last for start in starts)


def _outcome(delivery: pb.DeliveryStatus) -> Iterator[Event]:
    """Yield how it ended with one destination, or how far it is now; a dead letter is told by itself."""
    to = delivery.destination
    match delivery.state:
        case pb.DELIVERY_STATE_ACKNOWLEDGED:
            yield Event("acknowledged", delivery.acknowledge_time, to)
        case pb.DELIVERY_STATE_WAITING:
            yield Event("waiting", None, to, "for its turn, or for the end of a back-off")
        case pb.DELIVERY_STATE_LEASED:
            yield Event("leased", None, to, "a consumer has it")
        case pb.DELIVERY_STATE_DISCARDED:
            yield Event("discarded", None, to, _BY_HAND)


def _dead_letter(item: DeadLetter) -> Event:
    reason = f"{item.reason} (of a replay)" if item.replayed else item.reason
    return Event("dead-lettered", item.dead_letter_time, item.destination, reason)
