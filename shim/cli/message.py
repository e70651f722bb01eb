"""`mo message`: what was received, and what became of it."""

from datetime import datetime

import click
from aicc.mo.v1 import message_archive_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli import archive, holds
from shim.cli.connection import run
from shim.cli.output import write_items
from shim.cli.stored_message import message_columns
from shim.cli.usage import Noun, argument, option
from shim.cli.values import as_time

_STATES = {
    "pending": pb.MESSAGE_STATE_PENDING,
    "delivered": pb.MESSAGE_STATE_DELIVERED,
    "held": pb.MESSAGE_STATE_HELD,
    "discarded": pb.MESSAGE_STATE_DISCARDED,
}


@click.group("message", cls=Noun)
def message() -> None:
    """Messages: what was received, and what became of it."""


@message.verb("show", example="mo message show C17 SM00000000000000000000000000000001 --include-text")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sid", metavar="SID")
@option("--include-text", is_flag=True, help="Show what the person wrote, too.")
def show(channel_config_id: str, message_sid: str, *, include_text: bool) -> None:
    """Show one message, its life, and other messages that came with its id."""
    found = run(
        lambda service: archive.load_message(service, channel_config_id, message_sid, include_text=include_text)
    )
    archive.write_message(found, include_text=include_text)


@message.verb("re-route", example="mo message re-route C17 SM00000000000000000000000000000001")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sids", metavar="SID...", nargs=-1, required=True)
@click.pass_context
def re_route(ctx: click.Context, channel_config_id: str, message_sids: tuple[str, ...]) -> None:
    """Release held messages by today's routes, in their original order.

    The same as mo held release. Exits with 1 when one stays held, or wasn't.
    """
    holds.release(ctx, holds.Selected(channel_config_id, message_sids))


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
    found = run(lambda service: archive.list_messages(service, request, limit))
    write_items(found, message_columns(include_text=include_text))


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
