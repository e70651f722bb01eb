"""`mo replay`: how replays of stored messages go on. `mo message replay` starts one."""

import click
from aicc.mo.v1.message_feed_pb2 import CancelReplayRequest

from shim.cli import replays
from shim.cli.connection import run
from shim.cli.output import write_item, write_items
from shim.cli.recorded_replay import replay_columns, replay_fields
from shim.cli.usage import Noun, argument, option


@click.group("replay", cls=Noun)
def replay() -> None:
    """Replays: stored messages that are delivered again; mo message replay starts one."""


@replay.verb("list", example="mo replay list --limit 5")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
def list_replays(*, limit: int) -> None:
    """List replays, newest first: who asked for which messages, and how many are queued."""
    write_items(run(lambda service: replays.list_replays(service, limit)), replay_columns())


@replay.verb("show", example="mo replay show 0b2f8c1e-8f43-4f39-9c56-3f7f7e0f2f51")
@argument("replay_id", metavar="ID")
def show(replay_id: str) -> None:
    """Show one replay, and how far it is."""
    found = run(lambda service: replays.load(service, replay_id))
    write_item(found, replay_fields(found))


@replay.verb("watch", example="mo replay watch 0b2f8c1e-8f43-4f39-9c56-3f7f7e0f2f51")
@argument("replay_id", metavar="ID")
@click.pass_context
def watch(ctx: click.Context, replay_id: str) -> None:
    """Watch a replay until it ends, and show how it did.

    Ctrl-C ends the watching, not the replay. Exits with 1 when it was
    cancelled.
    """
    replays.watch(ctx, replay_id)


@replay.verb("cancel", example="mo replay cancel 0b2f8c1e-8f43-4f39-9c56-3f7f7e0f2f51")
@argument("replay_id", metavar="ID")
def cancel(replay_id: str) -> None:
    """End a replay where it is. What it has queued already is delivered."""
    request = CancelReplayRequest(replay_id=replay_id)
    found = run(lambda service: service.feed.CancelReplay(request, timeout=service.timeout)).replay
    write_item(found, replay_fields(found))
