"""`mo dead-letter`: messages that were given up for a destination."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from aicc.mo.v1.message_feed_pb2 import ListDeadLettersRequest

from shim.cli import dead_letters
from shim.cli.confirmation import confirm, confirm_final
from shim.cli.connection import run
from shim.cli.output import note, write_item, write_items, write_section
from shim.cli.stored_dead_letter import attempt_columns, dead_letter_columns, dead_letter_fields
from shim.cli.usage import CommandError, Noun, argument, option, settings

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group("dead-letter", cls=Noun)
def dead_letter() -> None:
    """Dead letters: given up for a destination after too many attempts, until an operator decides."""


@dead_letter.verb("list", example="mo dead-letter list --destination bot")
@option("--destination", metavar="NAME", default="", help="Only those of this destination.")
@option("--channel", "channel_config_id", metavar="ID", default="", help="Only those of this channel.")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
@option("--include-text", is_flag=True, help="Show what people wrote, too.")
def list_dead_letters(*, destination: str, channel_config_id: str, limit: int, include_text: bool) -> None:
    """List dead letters and why they were given up, newest first."""
    request = ListDeadLettersRequest(
        destination=destination, channel_config_id=channel_config_id, include_text=include_text
    )
    found = run(lambda service: dead_letters.list_dead_letters(service, request, limit))
    write_items(found, dead_letter_columns(include_text=include_text))


@dead_letter.verb("show", example="mo dead-letter show bot C17 SM00000000000000000000000000000001")
@argument("destination", metavar="DEST")
@argument("channel_config_id", metavar="CHANNEL")
@argument("message_sid", metavar="SID")
@option("--include-text", is_flag=True, help="Show what the person wrote, too.")
def show(destination: str, channel_config_id: str, message_sid: str, *, include_text: bool) -> None:
    """Show a dead letter, and each attempt that failed.

    A message that was replayed may be there twice: newest first.
    """
    request = ListDeadLettersRequest(
        destination=destination,
        channel_config_id=channel_config_id,
        message_sid=message_sid,
        include_text=include_text,
    )
    found = run(lambda service: dead_letters.list_dead_letters(service, request))
    if not found:
        raise CommandError(dead_letters.not_there(destination, channel_config_id, message_sid))
    for item in found:
        write_item(item, dead_letter_fields(item))
        if not settings().json:
            write_section(item.attempts, attempt_columns())


def _selection_faults(params: Mapping[str, Any]) -> Iterable[str]:
    is_named = bool(params.get("named_destination"))
    is_alike = bool(params.get("destination") or params.get("channel_config_id"))
    if is_named + is_alike + bool(params.get("is_everything")) != 1:
        yield "Give either DEST, CHANNEL and SIDs, or --destination and/or --channel, or --all."
    if is_named and not params.get("message_sids"):
        yield "Give CHANNEL and at least one SID after DEST; for all of a destination: --destination NAME."
    if len(params.get("message_sids") or ()) > dead_letters.MOST_KEYS:
        yield f"{dead_letters.MOST_KEYS} SIDs at once are the most; use --destination or --channel."


def _selection(function: _Function) -> _Function:
    """Add what says which dead letters are meant."""
    function = option("--all", "is_everything", is_flag=True, help="All dead letters.")(function)
    function = option("--channel", "channel_config_id", metavar="ID", default="", help="All of this channel.")(function)
    function = option("--destination", metavar="NAME", default="", help="All of this destination.")(function)
    function = argument("message_sids", metavar="SID...]", nargs=-1)(function)
    function = argument("named_channel", metavar="CHANNEL", default="")(function)
    return argument("named_destination", metavar="[DEST", default="")(function)


@dead_letter.verb(
    "redrive",
    example="mo dead-letter redrive bot C17 SM00000000000000000000000000000001\n"
    "mo dead-letter redrive --destination bot --yes",
    check=_selection_faults,
)
@_selection
@option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def redrive(ctx: click.Context, /, *, yes: bool, **selection: Any) -> None:
    """Put dead letters back into their destination, with their attempts forgotten.

    They keep their order and come before what is not delivered yet. Asks on a
    terminal unless each message is named. Exits with 1 when a named one isn't
    there.
    """
    selected = _selected(selection)
    if not yes and not selected.message_sids and sys.stdin.isatty():
        confirm(f"redriving {selected}")
    redriven, faults = run(lambda service: dead_letters.redrive(service, selected))
    _tell(ctx, "redriven", redriven, faults)


@dead_letter.verb(
    "discard",
    example="mo dead-letter discard bot C17 SM00000000000000000000000000000001\n"
    "mo dead-letter discard --channel C17 --yes",
    check=_selection_faults,
)
@_selection
@option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def discard(ctx: click.Context, /, *, yes: bool, **selection: Any) -> None:
    """Settle dead letters without delivering them. They stay in the archive.

    Exits with 1 when a named one isn't there.
    """
    selected = _selected(selection)
    if not yes:
        confirm_final(f"discarding {selected}")
    discarded, faults = run(lambda service: dead_letters.discard(service, selected))
    _tell(ctx, "discarded", discarded, faults)


def _selected(selection: Mapping[str, Any]) -> dead_letters.Selected:
    return dead_letters.Selected(
        selection["named_destination"] or selection["destination"],
        selection["named_channel"] or selection["channel_config_id"],
        selection["message_sids"],
    )


def _tell(ctx: click.Context, deed: str, count: int, faults: list[str]) -> None:
    """Print how many, say which named ones were not there, and end with 1 if any wasn't."""
    write_item({deed: count}, {deed: str(count)})
    for fault in faults:
        note(fault)
    ctx.exit(1 if faults else 0)
