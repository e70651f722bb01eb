"""`mo held`: messages that wait for an operator."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from aicc.mo.v1 import message_archive_pb2 as pb

from shim.cli import archive, holds
from shim.cli.confirmation import confirm, confirm_final
from shim.cli.connection import run
from shim.cli.output import write_items
from shim.cli.stored_message import HOLD_REASONS, message_columns, state_text
from shim.cli.usage import CommandError, Noun, argument, option

_Function = TypeVar("_Function", bound=Callable[..., Any])

_REASON = click.Choice(list(HOLD_REASONS))


@click.group("held", cls=Noun)
def held() -> None:
    """Held messages: stored, but handed to nobody until an operator decides."""


@held.verb("list", example="mo held list --channel C17 --reason unrouted")
@option("--channel", "channel_config_id", metavar="ID", default="", help="Only those of this channel.")
@option("--reason", type=_REASON, help="Only those held for this reason.")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
@option("--include-text", is_flag=True, help="Show what people wrote, too.")
def list_held(*, channel_config_id: str, reason: str | None, limit: int, include_text: bool) -> None:
    """List held messages, newest first."""
    request = pb.ListMessagesRequest(
        channel_config_id=channel_config_id, state=pb.MESSAGE_STATE_HELD, include_text=include_text
    )
    wanted = HOLD_REASONS[reason] if reason else None
    found = run(
        lambda service: archive.list_messages(
            service, request, limit, lambda item: wanted is None or item.hold_reason == wanted
        )
    )
    write_items(found, message_columns(include_text=include_text))


@held.verb("show", example="mo held show C17 SM00000000000000000000000000000001 --include-text")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sid", metavar="SID")
@option("--include-text", is_flag=True, help="Show what the person wrote, too.")
def show(channel_config_id: str, message_sid: str, *, include_text: bool) -> None:
    """Show one held message, and why it is held."""
    found = run(
        lambda service: archive.load_message(service, channel_config_id, message_sid, include_text=include_text)
    )
    if found.state != pb.MESSAGE_STATE_HELD:
        raise CommandError(f'message "{message_sid}" is not held: it is {state_text(found)}; see: mo message show')
    archive.write_message(found, include_text=include_text)


def _selection_faults(params: Mapping[str, Any]) -> Iterable[str]:
    is_named = bool(params.get("named_channel"))
    is_alike = bool(params.get("channel_config_id") or params.get("reason"))
    if is_named + is_alike + bool(params.get("is_everything")) != 1:
        yield "Give either CHANNEL and SIDs, or --channel and/or --reason, or --all."
    if is_named and not params.get("message_sids"):
        yield "Give at least one SID after CHANNEL; for all of a channel: --channel ID."
    if len(params.get("message_sids") or ()) > holds.MOST_KEYS:
        yield f"{holds.MOST_KEYS} SIDs at once are the most; use --channel or --reason."


def _selection(function: _Function) -> _Function:
    """Add what says which held messages are meant."""
    function = option("--all", "is_everything", is_flag=True, help="All that are held.")(function)
    function = option("--reason", type=_REASON, help="All that are held for this reason.")(function)
    function = option("--channel", "channel_config_id", metavar="ID", default="", help="All of this channel.")(function)
    function = argument("message_sids", metavar="SID...]", nargs=-1)(function)
    return argument("named_channel", metavar="[CHANNEL", default="")(function)


@held.verb(
    "release",
    example="mo held release C17 SM00000000000000000000000000000001\nmo held release --reason unrouted --yes",
    check=_selection_faults,
)
@_selection
@option("--destination", metavar="NAME", default="", help="Where they go instead of by the routes.")
@option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def release(ctx: click.Context, /, destination: str, *, yes: bool, **selection: Any) -> None:
    """Hand held messages out by today's routes, in their original order.

    They come before what is not delivered yet. Asks on a terminal unless each
    message is named. Exits with 1 when one stays held, or a named one wasn't.
    """
    selected = _selected(selection)
    if not yes and not selected.message_sids and sys.stdin.isatty():
        confirm(f"releasing {selected}")
    holds.release(ctx, selected, destination)


@held.verb(
    "discard",
    example="mo held discard C17 SM00000000000000000000000000000001\nmo held discard --channel C17 --yes",
    check=_selection_faults,
)
@_selection
@option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def discard(ctx: click.Context, /, *, yes: bool, **selection: Any) -> None:
    """Settle held messages without handing them out. They stay in the archive.

    Exits with 1 when a named one isn't held.
    """
    selected = _selected(selection)
    if not yes:
        confirm_final(f"discarding {selected}")
    holds.discard(ctx, selected)


def _selected(selection: Mapping[str, Any]) -> holds.Selected:
    return holds.Selected(
        selection["named_channel"],
        selection["message_sids"],
        selection["channel_config_id"],
        selection["reason"] or "",
    )
