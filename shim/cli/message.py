"""`mo message`: what was received, and what became of it."""

from datetime import datetime

import click
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_pb2 import HoldReason, MessageType, MoMessage
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.connection import Connection, run
from shim.cli.output import write_item, write_items
from shim.cli.texts import enum_text, time_text
from shim.cli.usage import Noun, argument, option
from shim.cli.values import as_time

_STATES = {
    "pending": pb.MESSAGE_STATE_PENDING,
    "delivered": pb.MESSAGE_STATE_DELIVERED,
    "held": pb.MESSAGE_STATE_HELD,
}


@click.group("message", cls=Noun)
def message() -> None:
    """Messages: what was received, and what became of it."""


@message.verb("show", example="mo message show C17 SM00000000000000000000000000000001 --include-text")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sid", metavar="SID")
@option("--include-text", is_flag=True, help="Show what the person wrote, too.")
def show(channel_config_id: str, message_sid: str, *, include_text: bool) -> None:
    """Show one message and its life."""
    request = pb.GetMessageRequest(
        channel_config_id=channel_config_id, message_sid=message_sid, include_text=include_text
    )
    found = run(lambda service: service.archive.GetMessage(request, timeout=service.timeout)).message
    write_item(found, _fields(found))


@message.verb("list", example="mo message list --channel C17 --since 2h --state held")
@option("--channel", "channel_config_id", metavar="ID", default="", help="Only those of this channel.")
@option("--sender", default="", help="Only those from this sender, as sent; needs --channel.")
@option("--since", type=as_time, metavar="TIME", help="Only those stored since then: ISO 8601, or like 2h ago.")
@option("--until", type=as_time, metavar="TIME", help="Only those stored before then.")
@option("--destination", metavar="NAME", default="", help="Only those that went there.")
@option("--state", type=click.Choice(list(_STATES)), help="Only those in this state.")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
@option("--include-text", is_flag=True, help="Show what people wrote, too.")
def list_messages(
    *,
    channel_config_id: str,
    sender: str,
    since: datetime | None,
    until: datetime | None,
    destination: str,
    state: str | None,
    limit: int,
    include_text: bool,
) -> None:
    """List messages, newest first."""
    request = pb.ListMessagesRequest(
        channel_config_id=channel_config_id,
        sender=sender,
        start_time=_timestamp(since),
        end_time=_timestamp(until),
        destination=destination,
        state=_STATES[state] if state else pb.MESSAGE_STATE_UNSPECIFIED,
        include_text=include_text,
    )
    columns = {
        "stored": lambda item: time_text(item.commit_time),
        "channel": lambda item: item.message.channel_config_id,
        "sid": lambda item: item.message.message_sid,
        "sender": lambda item: item.message.sender,
        "type": lambda item: _type_text(item.message),
        "state": _state_text,
        "destinations": lambda item: ", ".join(delivery.destination for delivery in item.deliveries),
    }
    if include_text:
        columns["body"] = lambda item: item.message.body
    write_items(run(lambda service: _pages(service, request, limit)), columns)


async def _pages(service: Connection, request: pb.ListMessagesRequest, limit: int) -> list[pb.StoredMessage]:
    """Return up to `limit` messages; a short or empty page need not be the last."""
    found: list[pb.StoredMessage] = []
    while True:
        request.page_size = min(limit - len(found), 1_000)
        page = await service.archive.ListMessages(request, timeout=service.timeout)
        found += page.messages
        if not page.next_page_token or len(found) >= limit:
            return found[:limit]
        request.page_token = page.next_page_token


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _type_text(item: MoMessage) -> str:
    if item.message_type:
        return enum_text(MessageType.Name(item.message_type), "MESSAGE_TYPE_")
    return item.message_type_name


def _state_text(item: pb.StoredMessage) -> str:
    text = enum_text(pb.MessageState.Name(item.state), "MESSAGE_STATE_")
    return f"{text}: {enum_text(HoldReason.Name(item.hold_reason), 'HOLD_REASON_')}" if item.hold_reason else text


def _delivery_text(item: pb.DeliveryStatus) -> str:
    times = f"{item.delivery_attempts} {'attempt' if item.delivery_attempts == 1 else 'attempts'}"
    if item.HasField("acknowledge_time"):
        return f"acknowledged {time_text(item.acknowledge_time)} after {times}"
    return f"not acknowledged yet, {times}"


def _fields(item: pb.StoredMessage) -> dict[str, str]:
    """Return the lines of `show`: the message, its way, and a line for each destination."""
    sent = item.message
    fields = {
        "channel": sent.channel_config_id,
        "sid": sent.message_sid,
        "sender": sent.sender,
        "receiver": sent.receiver,
        "type": _type_text(sent),
        "received": time_text(sent.receive_time),
        "stored": time_text(item.commit_time),
        "sequence": str(item.sequence),
        "state": _state_text(item),
        "route": f"{item.route_id or 'none matched'} (revision {item.route_revision})",
    }
    fields |= {f"to {delivery.destination}": _delivery_text(delivery) for delivery in item.deliveries}
    return fields | _text_fields(sent)


def _text_fields(sent: MoMessage) -> dict[str, str]:
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
