"""`mo destination`: the queues of AICC services, what waits in them, and how they deliver."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import click
from aicc.mo.v1 import message_feed_pb2 as pb

from shim.cli.connection import Connection, run
from shim.cli.destinations import load_destinations, names_text, note_if_old
from shim.cli.output import json_object, note, write_item, write_items
from shim.cli.proto_times import to_duration
from shim.cli.shown_destination import destination_columns, destination_fields, settings_fields
from shim.cli.usage import CommandError, Noun, argument, option
from shim.cli.values import as_duration

_CHANGES = ("ack_deadline", "max_attempts", "min_backoff", "max_backoff", "jitter", "is_ordered", "retention")


@click.group("destination", cls=Noun)
def destination() -> None:
    """Destinations: the queues of AICC services, what waits in them, and how they deliver."""


@destination.verb("list", example="mo destination list --json")
def list_destinations() -> None:
    """List the destinations, what waits in each, and its dead letters.

    oldest is how long the oldest message has waited, by this machine's clock.
    Rates are averages over the last minute; rates and consumers are those of
    the service process that answers. Where more than 100,000 conversations
    and dead letters wait, over all destinations, they are counted now and
    then, and it is said when.
    """
    found, now = run(load_destinations), datetime.now(UTC)
    write_items(found, destination_columns(now))
    note_if_old(found, now)


@destination.verb("show", example="mo destination show bot")
@argument("name", metavar="NAME")
def show(name: str) -> None:
    """Show one destination: what waits in it, and how it delivers."""
    known = run(load_destinations)
    found = next((item for item in known if item.name == name), None)
    if found is None:
        names = names_text([item.name for item in known])
        raise CommandError(f'there is no destination "{name}" so far; there are: {names}')
    now = datetime.now(UTC)
    write_item(found, destination_fields(found, now))
    note_if_old(known, now)


def _update_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if all(params.get(name) is None for name in _CHANGES):
        yield "Nothing to change: give at least one option, see --help."


@destination.verb(
    "update",
    example="mo destination update bot --ack-deadline 90s --max-attempts 5\n"
    "mo destination update archive --unordered --retention 90d",
    check=_update_faults,
)
@argument("name", metavar="NAME")
@option("--ack-deadline", type=as_duration, metavar="DURATION", help="The lease of a delivery: 1s to 10m.")
@option(
    "--max-attempts",
    type=click.IntRange(1, 100),
    metavar="N",
    help="After how many failed attempts a message is dead-lettered: 1 to 100.",
)
@option("--min-backoff", type=as_duration, metavar="DURATION", help="The wait after the first failed attempt; doubles.")
@option("--max-backoff", type=as_duration, metavar="DURATION", help="The longest such wait: up to 10m.")
@option(
    "--jitter",
    type=click.FloatRange(0, 1),
    metavar="PART",
    help="How much of a wait may be left out at random: 0 to 1.",
)
@option("--ordered/--unordered", "is_ordered", default=None, help="Whether a conversation comes one by one, in order.")
@option(
    "--retention", type=as_duration, metavar="DURATION", help="How long messages stay after they are done: 1h to 3650d."
)
def update(name: str, **options: Any) -> None:
    """Change how NAME delivers, from now on. Makes it if there is none.

    Durations are written like 90s, 15m, 12h or 30d; a bare number is seconds.
    """
    request = pb.UpdateDestinationRequest(name=name, settings=_changed_settings(options))
    settings, is_new = run(lambda service: _update(service, request))
    write_item({"name": name, "settings": json_object(settings)}, {"destination": name, **settings_fields(settings)})
    if is_new:
        note(f'the destination "{name}" is new: nothing arrives in it until a channel or a route names it')


def _changed_settings(options: Mapping[str, Any]) -> pb.DestinationSettings:
    return pb.DestinationSettings(
        ack_deadline=to_duration(options["ack_deadline"]),
        max_attempts=options["max_attempts"],
        min_backoff=to_duration(options["min_backoff"]),
        max_backoff=to_duration(options["max_backoff"]),
        backoff_jitter=options["jitter"],
        is_ordered=options["is_ordered"],
        retention=to_duration(options["retention"]),
    )


async def _update(service: Connection, request: pb.UpdateDestinationRequest) -> tuple[pb.DestinationSettings, bool]:
    """Return all its settings now, and whether it was made."""
    known = await load_destinations(service)
    response = await service.feed.UpdateDestination(request, timeout=service.timeout)
    return response.settings, request.name not in {item.name for item in known}
