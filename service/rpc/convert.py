"""Protobuf to records and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import parse_qsl, unquote_to_bytes

from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2 as message_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.models import (
    AssignmentReason,
    AttemptOutcome,
    DeliveryAttempt,
    DeliveryState,
    DeliveryStatus,
    HoldReason,
    MessageState,
    QuarantinedRequest,
    StoredMessage,
)
from service.routing import canonical_type

HOLD_REASONS = {
    None: message_pb.HOLD_REASON_UNSPECIFIED,
    HoldReason.UNROUTED: message_pb.HOLD_REASON_UNROUTED,
    HoldReason.CHANNEL_PAUSED: message_pb.HOLD_REASON_CHANNEL_PAUSED,
    HoldReason.CHANNEL_DISABLED: message_pb.HOLD_REASON_CHANNEL_DISABLED,
    HoldReason.CHANNEL_DELETED: message_pb.HOLD_REASON_CHANNEL_DELETED,
    HoldReason.RECIPIENT_MISMATCH: message_pb.HOLD_REASON_RECIPIENT_MISMATCH,
}
HOLD_REASONS_BACK = {value: reason for reason, value in HOLD_REASONS.items()}

MESSAGE_STATES = {
    MessageState.PENDING: archive_pb.MESSAGE_STATE_PENDING,
    MessageState.DELIVERED: archive_pb.MESSAGE_STATE_DELIVERED,
    MessageState.HELD: archive_pb.MESSAGE_STATE_HELD,
    MessageState.DISCARDED: archive_pb.MESSAGE_STATE_DISCARDED,
}
MESSAGE_STATES_BACK = {value: state for state, value in MESSAGE_STATES.items()}

ASSIGNMENT_REASONS = {
    None: message_pb.ASSIGNMENT_REASON_UNSPECIFIED,
    AssignmentReason.ASSIGNED: message_pb.ASSIGNMENT_REASON_ASSIGNED,
    AssignmentReason.AFFINITY: message_pb.ASSIGNMENT_REASON_AFFINITY,
}

DELIVERY_STATES = {
    DeliveryState.WAITING: archive_pb.DELIVERY_STATE_WAITING,
    DeliveryState.LEASED: archive_pb.DELIVERY_STATE_LEASED,
    DeliveryState.ACKNOWLEDGED: archive_pb.DELIVERY_STATE_ACKNOWLEDGED,
    DeliveryState.DEAD_LETTERED: archive_pb.DELIVERY_STATE_DEAD_LETTERED,
    DeliveryState.DISCARDED: archive_pb.DELIVERY_STATE_DISCARDED,
}

ATTEMPT_OUTCOMES = {
    AttemptOutcome.NACKED: message_pb.ATTEMPT_OUTCOME_NACKED,
    AttemptOutcome.EXPIRED: message_pb.ATTEMPT_OUTCOME_EXPIRED,
    AttemptOutcome.STREAM_BROKEN: message_pb.ATTEMPT_OUTCOME_STREAM_BROKEN,
}

TYPE_NAMES = {number: name.removeprefix("MESSAGE_TYPE_") for name, number in message_pb.MessageType.items() if number}

ENVELOPE_FIELDS = (
    "channel_config_id",
    "message_sid",
    "sender",
    "receiver",
    "message_type",
    "message_type_name",
    "account_sid",
    "messaging_service_sid",
    "receive_time",
)
"""What may be seen of a message without its text."""

SHORTEST_NUMBER = 7
"""Fewer digits stand in too many texts by chance."""

MOST_SENDERS = 10
"""More of them in one form are nobody's."""


def to_timestamp(at: int) -> Timestamp:
    return Timestamp(seconds=at // 1_000_000, nanos=at % 1_000_000 * 1000)


def to_timestamp_if_any(at: int | None) -> Timestamp | None:
    return None if at is None else to_timestamp(at)


def from_timestamp(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


def seconds_of(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def fingerprint_of(payload: bytes) -> bytes:
    """Return the same for messages that say the same: sender, receiver, type, body and media (design 6.2)."""
    message = message_pb.MoMessage.FromString(payload)
    known = TYPE_NAMES.get(message.message_type) or canonical_type(message.message_type_name)
    said = message_pb.MoMessage(
        sender=message.sender,
        receiver=message.receiver,
        message_type_name=known,
        body=message.body,
        media=message.media,
    )
    return blake2b(said.SerializeToString(deterministic=True), digest_size=16).digest()


def to_stored_message(
    stored: StoredMessage, *, include_text: bool, include_attempts: bool = False
) -> archive_pb.StoredMessage:
    message = message_pb.MoMessage.FromString(stored.payload)
    return archive_pb.StoredMessage(
        message=message if include_text else envelope_of(message),
        sequence=stored.sequence,
        commit_time=to_timestamp(stored.committed_at),
        state=MESSAGE_STATES[stored.state],
        hold_reason=HOLD_REASONS[stored.decision.hold_reason],
        route_id=stored.decision.route_id,
        route_revision=stored.decision.route_revision,
        deliveries=[_to_delivery_status(delivery, include_attempts=include_attempts) for delivery in stored.deliveries],
        assignment_reason=ASSIGNMENT_REASONS[stored.decision.assignment_reason],
    )


def _to_delivery_status(delivery: DeliveryStatus, *, include_attempts: bool) -> archive_pb.DeliveryStatus:
    acknowledged_at = delivery.settled_at if delivery.state is DeliveryState.ACKNOWLEDGED else None
    return archive_pb.DeliveryStatus(
        destination=delivery.destination,
        acknowledge_time=to_timestamp_if_any(acknowledged_at),
        delivery_attempts=delivery.attempts,
        state=DELIVERY_STATES[delivery.state],
        deliver_time=to_timestamp_if_any(delivery.delivered_at),
        failed_attempts=[to_attempt(attempt) for attempt in delivery.failed_attempts] if include_attempts else (),
    )


def to_attempt(attempt: DeliveryAttempt) -> message_pb.DeliveryAttempt:
    return message_pb.DeliveryAttempt(
        number=attempt.number,
        start_time=to_timestamp(attempt.started_at),
        end_time=to_timestamp(attempt.ended_at),
        outcome=ATTEMPT_OUTCOMES[attempt.outcome],
    )


def envelope_of(message: message_pb.MoMessage) -> message_pb.MoMessage:
    envelope = message_pb.MoMessage()
    envelope.CopyFrom(message)
    for descriptor, _ in message.ListFields():
        if descriptor.name not in ENVELOPE_FIELDS:
            envelope.ClearField(descriptor.name)  # type: ignore[arg-type] # the stub lists literal names
    return envelope


def to_quarantined(request: ingest_pb.QuarantinedRequest) -> QuarantinedRequest:
    """Return a request as the service keeps it. Without a time, it comes before nobody's erasure."""
    is_timed = request.HasField("receive_time")
    return QuarantinedRequest(
        request.entry_id,
        request.channel_config_id,
        request.is_accepted,
        request.SerializeToString(),
        _senders_of(request.body) if is_timed else (),
        from_timestamp(request.receive_time),
    )


def _senders_of(body: bytes) -> Sequence[str]:
    """Return whom a form may be from. Of who was erased only a hash is left, so a number must stand where it does."""
    form = parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
    named = [value for name, value in form if name in ("From", "ExternalUserId")]
    numbers = [f"whatsapp:+{value}" for name, value in form if name == "WaId"]
    return list(dict.fromkeys(named[:MOST_SENDERS] + numbers[:MOST_SENDERS]))


def names_sender(payload: bytes, sender: str) -> bool:
    """Whether a quarantined request came from a sender, or has its number anywhere, percent-encoded or not."""
    body = ingest_pb.QuarantinedRequest.FromString(payload).body
    if ("From", sender) in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        return True
    number = sender.rpartition(":")[2].removeprefix("+").encode()
    if len(number) < SHORTEST_NUMBER:
        return False
    alone = re.compile(rb"(?<![0-9])" + re.escape(number) + rb"(?![0-9])")
    return any(alone.search(text) for text in (body, unquote_to_bytes(body)))
