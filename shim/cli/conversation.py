"""`mo conversation`: hands a conversation to another destination for a time, and back to the routes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from aicc.mo.v1 import message_ingest_pb2 as pb
from aicc.mo.v1.message_feed_pb2 import Destination

from shim.cli.connection import Connection, run
from shim.cli.destinations import load_destinations, note_if_unknown
from shim.cli.output import note, write_item
from shim.cli.proto_times import to_duration
from shim.cli.texts import short_sender, time_text
from shim.cli.usage import Noun, argument, option
from shim.cli.values import as_duration


@click.group("conversation", cls=Noun)
def conversation() -> None:
    """Conversations: what one sender writes in one channel, and where it goes for a time."""


def _assign_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if params.get("destination") == "":
        yield "DESTINATION is empty; to end an assignment: mo conversation release CHANNEL SENDER."


@conversation.verb(
    "assign",
    example="mo conversation assign C17 whatsapp:+447700900123 agents --ttl 4h",
    check=_assign_faults,
)
@argument("channel_config_id", metavar="CHANNEL")
@argument("sender", metavar="SENDER")
@argument("destination", metavar="DESTINATION")
@option("--ttl", type=as_duration, metavar="DURATION", help="For how long: 1s to 30d. [default: 1d]")
def assign(channel_config_id: str, sender: str, destination: str, ttl: float | None) -> None:
    """Let the conversation of SENDER stay with DESTINATION for a time.

    Its next messages go there, and what is not delivered yet moves there, in
    order. SENDER is written as mo message list shows it. A repeat sets the
    time anew.
    """
    request = pb.AssignConversationRequest(
        channel_config_id=channel_config_id, sender=sender, destination=destination, ttl=to_duration(ttl)
    )
    known, response = run(lambda service: _assign(service, request))
    note_if_unknown(destination, known)
    write_item(
        response,
        {"destination": destination, "moved": str(response.moved), "until": time_text(response.expire_time)},
    )


async def _assign(
    service: Connection, request: pb.AssignConversationRequest
) -> tuple[Sequence[Destination], pb.AssignConversationResponse]:
    """Assign the conversation; returns the destinations that there were before, too."""
    known = await load_destinations(service)
    return known, await service.ingest.AssignConversation(request, timeout=service.timeout)


@conversation.verb("release", example="mo conversation release C17 whatsapp:+447700900123")
@argument("channel_config_id", metavar="CHANNEL")
@argument("sender", metavar="SENDER")
def release(channel_config_id: str, sender: str) -> None:
    """Let the next messages of SENDER go by the routes again.

    What waits already stays where it is.
    """
    request = pb.AssignConversationRequest(channel_config_id=channel_config_id, sender=sender)
    run(lambda service: service.ingest.AssignConversation(request, timeout=service.timeout))
    note(f"the next messages of {short_sender(sender)} go by the routes")
