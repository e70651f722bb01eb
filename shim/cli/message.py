"""`mo message`: what was received, and what became of it."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_feed_pb2 import ListDeadLettersRequest, ReplaySelection, StartReplayRequest
from aicc.mo.v1.message_pb2 import MessageKey

from shim.cli import archive, dead_letters, holds, replays
from shim.cli.confirmation import confirm_final
from shim.cli.connection import Connection, run
from shim.cli.erasure import erase, erased_fields, is_nothing
from shim.cli.life import Event, life
from shim.cli.output import json_line, json_object, note, write_item, write_items, write_line, write_table
from shim.cli.proto_times import to_timestamp
from shim.cli.recorded_replay import counted_fields, replay_fields
from shim.cli.stored_message import message_columns
from shim.cli.texts import enum_text, short_sender
from shim.cli.usage import Noun, argument, option, settings
from shim.cli.values import as_time

_STATES = {
    "pending": pb.MESSAGE_STATE_PENDING,
    "delivered": pb.MESSAGE_STATE_DELIVERED,
    "held": pb.MESSAGE_STATE_HELD,
    "discarded": pb.MESSAGE_STATE_DISCARDED,
}

_ROUTED = {pb.RE_ROUTE_OUTCOME_RELEASED, pb.RE_ROUTE_OUTCOME_MOVED, pb.RE_ROUTE_OUTCOME_UNCHANGED}


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
    """Route messages anew, by today's routes.

    Held ones are released. Of the others, what is not delivered yet goes where
    the routes say now, in the order of its conversation; what is out,
    acknowledged or dead-lettered stays. Exits with 1 when one is not there, or
    no route wants it.
    """
    sids = list(dict.fromkeys(message_sids))
    results = run(lambda service: _re_route_all(service, channel_config_id, sids))
    for sid, result in zip(sids, results, strict=True) if settings().json else ():
        write_line(json_line({"message_sid": sid, **json_object(result)}))
    if not settings().json:
        write_table(["message", "outcome", "route", "destinations"], map(_re_routed_row, sids, results))
    ctx.exit(0 if all(result.outcome in _ROUTED for result in results) else 1)


def _re_routed_row(sid: str, result: pb.ReRouteResult) -> list[str]:
    outcome = enum_text(pb.ReRouteOutcome.Name(result.outcome), "RE_ROUTE_OUTCOME_")
    return [sid, outcome, result.route_id, ", ".join(result.destinations)]


async def _re_route_all(service: Connection, channel_config_id: str, sids: Sequence[str]) -> list[pb.ReRouteResult]:
    results: list[pb.ReRouteResult] = []
    for start in range(0, len(sids), holds.MOST_KEYS):
        part = sids[start : start + holds.MOST_KEYS]
        keys = [MessageKey(channel_config_id=channel_config_id, message_sid=sid) for sid in part]
        response = await service.archive.ReRoute(pb.ReRouteRequest(keys=keys), timeout=service.timeout)
        results += response.results
    return results


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
        start_time=to_timestamp(since),
        end_time=to_timestamp(until),
        destination=destination,
        state=_STATES[state] if state else pb.MESSAGE_STATE_UNSPECIFIED,
        include_text=include_text,
    )
    found = run(lambda service: archive.list_messages(service, request, limit))
    write_items(found, message_columns(include_text=include_text))


def _replay_faults(params: Mapping[str, Any]) -> Iterable[str]:
    has_channel = bool(params.get("channel_config_id"))
    if not has_channel and (params.get("sender") or params.get("route")):
        yield "--sender and --route need --channel."
    since, until = params.get("since"), params.get("until")
    if not (has_channel or since or until):
        yield "Say which messages: give --channel, --since or --until."
    if since and until and until <= since:
        yield "--until is not after --since: no message is between them."
    if params.get("dry_run") and params.get("detach"):
        yield "--dry-run starts nothing that --detach could leave alone."


@message.verb(
    "replay",
    example="mo message replay bot --channel C17 --since 2h --dry-run\n"
    "mo message replay bot --channel C17 --since 2026-11-22T08:00Z --until 2026-11-22T09:30Z",
    check=_replay_faults,
)
@argument("destination", metavar="DEST")
@option("--channel", "channel_config_id", metavar="ID", default="", help="Only those of this channel.")
@option("--sender", default="", help="Only those from this sender, as sent; needs --channel.")
@option("--route", metavar="ID", default="", help="Only those that took this route; needs --channel.")
@option("--since", type=as_time, metavar="TIME", help="Only those stored since then: ISO 8601, or like 2h ago.")
@option("--until", type=as_time, metavar="TIME", help="Only those stored before then. [default: now]")
@option(
    "--rate",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many a second at the most.",
)
@option("--dry-run", is_flag=True, help="Only count the messages.")
@option("--yes", is_flag=True, help="Don't ask.")
@option("--detach", is_flag=True, help="Don't watch it.")
@click.pass_context
def replay(ctx: click.Context, /, *, rate: int, dry_run: bool, yes: bool, detach: bool, **chosen: Any) -> None:
    """Deliver stored messages to DEST again, acknowledged ones too, marked as replayed.

    Live messages don't wait for them. Counts them first, asks on a terminal,
    and shows how it goes on; Ctrl-C ends the watching, not the replay. Exits
    with 1 when it was cancelled meanwhile.
    """
    request = _replay_request(chosen, rate)
    counted = replays.count(request)
    if dry_run or not counted.total:
        write_item(counted, counted_fields(counted))
        if not dry_run:
            note("no stored message is like that: nothing was started")
        return
    if not yes:
        replays.confirm_plan(counted, rate)
    started = replays.start(request)
    if detach:
        write_item(started, replay_fields(started))
        note(f"the replay has started; {replays.how_to_follow(started.replay_id)}")
        return
    replays.watch(ctx, started.replay_id)


def _replay_request(chosen: Mapping[str, Any], rate: int) -> StartReplayRequest:
    return StartReplayRequest(
        # Ours to make: should the answer get lost, it tells whether the replay has started.
        replay_id=str(uuid.uuid4()),
        destination=chosen["destination"],
        selection=ReplaySelection(
            start_time=to_timestamp(chosen["since"]),
            end_time=to_timestamp(chosen["until"]),
            channel_config_id=chosen["channel_config_id"],
            sender=chosen["sender"],
            route_id=chosen["route"],
        ),
        max_rate=rate,
    )


@message.verb("trace", example="mo message trace C17 SM00000000000000000000000000000001")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sid", metavar="SID")
def trace(channel_config_id: str, message_sid: str) -> None:
    """Show the life of one message in the order of time: routed, handed out, failed, acknowledged.

    With --json: one object an event, with time, event, destination and details.
    """
    events = run(lambda service: _trace(service, channel_config_id, message_sid))
    if settings().json:
        for event in events:
            write_line(json_line(event.to_json()))
    else:
        write_table(["time", "event", "destination", "details"], [event.to_row() for event in events])


async def _trace(service: Connection, channel_config_id: str, message_sid: str) -> list[Event]:
    found = await archive.load_message(service, channel_config_id, message_sid)
    request = ListDeadLettersRequest(channel_config_id=channel_config_id, message_sid=message_sid)
    return life(found, await dead_letters.list_dead_letters(service, request))


@message.verb("erase-sender", example="mo message erase-sender C17 whatsapp:+447700900123 --yes")
@argument("channel_config_id", metavar="CHANNEL")
@argument("sender", metavar="SENDER")
@option("--yes", is_flag=True, help="Don't ask.")
def erase_sender(channel_config_id: str, sender: str, *, yes: bool) -> None:
    """Remove everything that is stored of SENDER in CHANNEL, and say how much of what.

    Messages with their deliveries, dead letters and clashes, what is held, and
    requests in quarantine. What was received before and arrives later is
    dropped; what the sender writes from now on is taken. SENDER is written as
    mo message list shows it.
    """
    if not yes:
        confirm_final(f'erasing everything of {short_sender(sender)} in channel "{channel_config_id}"')
    request = pb.EraseSenderRequest(channel_config_id=channel_config_id, sender=sender)
    erased = pb.EraseSenderResponse()
    try:
        run(lambda service: erase(service, request, erased))
    finally:
        # What was removed before a failure is told, too.
        if erased.is_complete or not is_nothing(erased):
            write_item(erased, erased_fields(erased))
    if is_nothing(erased):
        note(f"nothing was stored of {short_sender(sender)}; is it written as mo message list shows it?")
