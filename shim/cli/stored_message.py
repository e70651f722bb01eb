"""How a stored message reads: the columns of a list, and the lines of one. Pure."""

from collections.abc import Callable

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_pb2 import AssignmentReason, HoldReason, MessageType, MoMessage

from shim.cli.texts import enum_text, time_text

HOLD_REASONS = {enum_text(name, "HOLD_REASON_"): value for name, value in HoldReason.items() if value}


def message_columns(*, include_text: bool) -> dict[str, Callable[[pb.StoredMessage], str]]:
    """Return the columns of a list of messages."""
    columns: dict[str, Callable[[pb.StoredMessage], str]] = {
        "stored": lambda item: time_text(item.commit_time),
        "channel": lambda item: item.message.channel_config_id,
        "sid": lambda item: item.message.message_sid,
        "sender": lambda item: item.message.sender,
        "type": lambda item: type_text(item.message),
        "state": state_text,
        "destinations": lambda item: ", ".join(delivery.destination for delivery in item.deliveries),
    }
    if include_text:
        columns["body"] = lambda item: item.message.body
    return columns


def message_fields(item: pb.StoredMessage) -> dict[str, str]:
    """Return the lines of `show`: the message, its way, and a line for each destination."""
    sent = item.message
    fields = {
        "channel": sent.channel_config_id,
        "sid": sent.message_sid,
        "sender": sent.sender,
        "receiver": sent.receiver,
        "type": type_text(sent),
        "received": time_text(sent.receive_time),
        "stored": time_text(item.commit_time),
        "sequence": str(item.sequence),
        "state": state_text(item),
        "route": _route_text(item),
    }
    fields |= {f"to {delivery.destination}": _delivery_text(delivery) for delivery in item.deliveries}
    return fields | content_fields(sent)


def clash_columns(*, include_text: bool) -> dict[str, Callable[[pb.Clash], str]]:
    """Return the columns of the other messages that came with the same id."""
    columns: dict[str, Callable[[pb.Clash], str]] = {
        "clash stored": lambda item: time_text(item.commit_time),
        "sender": lambda item: item.message.sender,
        "receiver": lambda item: item.message.receiver,
        "type": lambda item: type_text(item.message),
    }
    if include_text:
        columns["body"] = lambda item: item.message.body
    return columns


def state_text(item: pb.StoredMessage) -> str:
    """Return `held: unrouted`, or the state alone where there is no reason."""
    text = enum_text(pb.MessageState.Name(item.state), "MESSAGE_STATE_")
    return f"{text}: {enum_text(HoldReason.Name(item.hold_reason), 'HOLD_REASON_')}" if item.hold_reason else text


def type_text(item: MoMessage) -> str:
    if item.message_type:
        return enum_text(MessageType.Name(item.message_type), "MESSAGE_TYPE_")
    return item.message_type_name


def _route_text(item: pb.StoredMessage) -> str:
    text = f"{item.route_id or 'none matched'} (revision {item.route_revision})"
    if not item.assignment_reason:
        return text
    reason = enum_text(AssignmentReason.Name(item.assignment_reason), "ASSIGNMENT_REASON_")
    return f"{text}, {reason}"


def _delivery_text(item: pb.DeliveryStatus) -> str:
    times = f"{item.delivery_attempts} {'attempt' if item.delivery_attempts == 1 else 'attempts'}"
    match item.state:
        case pb.DELIVERY_STATE_ACKNOWLEDGED:
            return f"acknowledged {time_text(item.acknowledge_time)} after {times}"
        case pb.DELIVERY_STATE_LEASED:
            return f"with a consumer since {time_text(item.deliver_time)}, attempt {item.delivery_attempts}"
        case pb.DELIVERY_STATE_DEAD_LETTERED:
            return f"dead-lettered after {times}; mo dead-letter show tells why"
        case pb.DELIVERY_STATE_DISCARDED:
            return f"discarded after {times}"
    return f"waiting, {times} so far"


def content_fields(sent: MoMessage) -> dict[str, str]:
    """Return what the person wrote, where it was included."""
    fields = {"profile name": sent.profile_name} if sent.HasField("profile_name") else {}
    if sent.HasField("body"):
        fields["body"] = sent.body
    if sent.HasField("button"):
        fields["button"] = sent.button.text or sent.button.payload
    if sent.HasField("location"):
        place = [sent.location.latitude, sent.location.longitude, sent.location.label, sent.location.address]
        fields["location"] = ", ".join(filter(None, place))
    return fields | {f"media {number}": f"{item.content_type} {item.url}" for number, item in enumerate(sent.media)}
