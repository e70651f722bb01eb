"""Protobuf to records and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_pb2 as message_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.directory import change_user
from service.errors import InvalidRequest, Violation
from service.models import (
    Channel,
    ChannelState,
    Credentials,
    HoldReason,
    MessageFacts,
    MessageState,
    Route,
    StoredMessage,
)
from service.routing import canonical_type

STATES = {
    ChannelState.ENABLED: directory_pb.CHANNEL_STATE_ENABLED,
    ChannelState.DISABLED: directory_pb.CHANNEL_STATE_DISABLED,
    ChannelState.PAUSED: directory_pb.CHANNEL_STATE_PAUSED,
}
STATES_BACK = {value: state for state, value in STATES.items()}

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


def to_timestamp(at: int) -> Timestamp:
    return Timestamp(seconds=at // 1_000_000, nanos=at % 1_000_000 * 1000)


def from_timestamp(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


def seconds_of(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def to_channel(channel: Channel) -> directory_pb.Channel:
    message = directory_pb.Channel(
        channel_config_id=channel.channel_config_id,
        provider=channel.provider,
        number=channel.number,
        webhook_user=channel.credentials.webhook_user,
        state=STATES[channel.state],
        destination=channel.destination,
        infer_message_type=channel.infer_message_type,
        etag=str(channel.revision),
        route_revision=channel.route_revision,
        create_time=to_timestamp(channel.created_at),
        update_time=to_timestamp(channel.updated_at),
    )
    if channel.credentials.previous_password_expires_at is not None:
        message.previous_password_expire_time.CopyFrom(to_timestamp(channel.credentials.previous_password_expires_at))
    return message


def from_new_channel(message: directory_pb.Channel) -> Channel:
    return Channel(
        channel_config_id=message.channel_config_id,
        provider=message.provider or "twilio",
        credentials=Credentials(message.webhook_user, ""),
        number=message.number,
        state=STATES_BACK.get(message.state, ChannelState.ENABLED),
        destination=message.destination if message.HasField("destination") else None,
        infer_message_type=message.infer_message_type,
    )


def change_channel(channel: Channel, wanted: directory_pb.Channel, paths: Sequence[str]) -> Channel:
    """Return the channel with the fields of the mask changed. Raises `InvalidRequest` for other paths."""
    changes = {
        "number": lambda: replace(channel, number=wanted.number),
        "webhook_user": lambda: replace(channel, credentials=change_user(channel.credentials, wanted.webhook_user)),
        "state": lambda: replace(channel, state=STATES_BACK[wanted.state]),
        "destination": lambda: replace(
            channel, destination=wanted.destination if wanted.HasField("destination") else None
        ),
        "infer_message_type": lambda: replace(channel, infer_message_type=wanted.infer_message_type),
    }
    violations = [
        Violation("update_mask", f'can\'t change "{path[:64]}"; can change: {", ".join(changes)}')
        for path in paths
        if path not in changes
    ]
    if not paths:
        violations.append(Violation("update_mask", f"must name what to change: {', '.join(changes)}"))
    if "state" in paths and wanted.state not in STATES_BACK:
        violations.append(Violation("state", "must be enabled, disabled or paused"))
    if violations:
        raise InvalidRequest(violations)
    for path in paths:
        channel = changes[path]()
    return channel


def to_replica(channel: Channel) -> directory_pb.ChannelReplica:
    if channel.state is ChannelState.DELETED:
        return directory_pb.ChannelReplica(
            channel_config_id=channel.channel_config_id, revision=channel.revision, deleted=True
        )
    credentials = channel.credentials
    hashes = [directory_pb.PasswordHash(phc=credentials.password_hash)]
    if credentials.previous_password_hash and credentials.previous_password_expires_at is not None:
        expire_time = to_timestamp(credentials.previous_password_expires_at)
        hashes.append(directory_pb.PasswordHash(phc=credentials.previous_password_hash, expire_time=expire_time))
    return directory_pb.ChannelReplica(
        channel_config_id=channel.channel_config_id,
        revision=channel.revision,
        provider=channel.provider,
        state=STATES[channel.state],
        webhook_user=credentials.webhook_user,
        password_hashes=hashes,
        credential_revision=credentials.revision,
        infer_message_type=channel.infer_message_type,
    )


def to_route(route: Route) -> directory_pb.Route:
    match = directory_pb.RouteMatch(
        message_types=route.message_types,
        keywords=route.keywords,
        body_pattern=route.body_pattern,
        sender_prefixes=route.sender_prefixes,
        button_payloads=route.button_payloads,
        is_reply=route.is_reply,
        has_referral=route.has_referral,
    )
    return directory_pb.Route(route_id=route.route_id, match=match, destinations=route.destinations)


def from_route(message: directory_pb.Route) -> Route:
    match = message.match
    return Route(
        route_id=message.route_id,
        destinations=tuple(message.destinations),
        message_types=tuple(match.message_types),
        keywords=tuple(match.keywords),
        body_pattern=match.body_pattern if match.HasField("body_pattern") else None,
        sender_prefixes=tuple(match.sender_prefixes),
        button_payloads=tuple(match.button_payloads),
        is_reply=match.is_reply if match.HasField("is_reply") else None,
        has_referral=match.has_referral if match.HasField("has_referral") else None,
    )


def facts_of(message: message_pb.MoMessage) -> MessageFacts:
    """Return what routes look at. A reply, a button or a referral is one that is there, whatever is in it."""
    sent = canonical_type(message.message_type_name)
    known = TYPE_NAMES.get(message.message_type, "")
    return MessageFacts(
        type_names=(sent, known) if sent else (known,),
        sender=message.sender,
        body=message.body if message.HasField("body") else None,
        button_payload=message.button.payload if message.button.HasField("payload") else None,
        is_reply=message.HasField("reply_to"),
        has_referral=message.HasField("referral"),
    )


def read_facts(payload: bytes) -> MessageFacts:
    """Return what routes look at in a stored message."""
    return facts_of(message_pb.MoMessage.FromString(payload))


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


def to_stored_message(stored: StoredMessage, *, include_text: bool) -> archive_pb.StoredMessage:
    message = message_pb.MoMessage.FromString(stored.payload)
    result = archive_pb.StoredMessage(
        message=message if include_text else envelope_of(message),
        sequence=stored.sequence,
        commit_time=to_timestamp(stored.committed_at),
        state=MESSAGE_STATES[stored.state],
        hold_reason=HOLD_REASONS[stored.decision.hold_reason],
        route_id=stored.decision.route_id,
        route_revision=stored.decision.route_revision,
    )
    for delivery in stored.deliveries:
        status = result.deliveries.add(destination=delivery.destination, delivery_attempts=delivery.attempts)
        if delivery.acknowledged_at is not None:
            status.acknowledge_time.CopyFrom(to_timestamp(delivery.acknowledged_at))
    return result


def envelope_of(message: message_pb.MoMessage) -> message_pb.MoMessage:
    envelope = message_pb.MoMessage()
    envelope.CopyFrom(message)
    for descriptor, _ in message.ListFields():
        if descriptor.name not in ENVELOPE_FIELDS:
            envelope.ClearField(descriptor.name)  # type: ignore[arg-type] # the stub lists literal names
    return envelope
