"""Counts, starts and watches replays; what `mo message replay` and `mo replay` share."""

import asyncio
import sys
from collections.abc import Sequence

import click
from aicc.mo.v1 import message_feed_pb2 as pb

from shim.cli.confirmation import confirm
from shim.cli.connection import Connection, run
from shim.cli.destinations import load_destinations, note_if_unknown
from shim.cli.output import note, write_item
from shim.cli.paging import collect
from shim.cli.progress import progress
from shim.cli.recorded_replay import replay_fields
from shim.cli.texts import seconds_text
from shim.cli.usage import CommandError

POLL_SECONDS = 1.0
"""How often a watched replay is looked at."""


def count(request: pb.StartReplayRequest) -> pb.Replay:
    """Return what the replay would be, above all its `total`; starts nothing. Remarks on an unknown destination."""
    dry = pb.StartReplayRequest()
    dry.CopyFrom(request)
    dry.is_dry_run = True
    counted, known = run(lambda service: _count(service, dry))
    note_if_unknown(request.destination, known)
    return counted


async def _count(service: Connection, dry: pb.StartReplayRequest) -> tuple[pb.Replay, Sequence[pb.Destination]]:
    return await _start(service, dry), await load_destinations(service)


def confirm_plan(counted: pb.Replay, max_rate: int) -> None:
    """Say what is going to happen, and on a terminal ask whether it may. Raises `CommandError` when not."""
    seconds = counted.total / max_rate
    duration = f", about {seconds_text(seconds)}" if seconds >= 1 else ""
    plan = f'replaying {counted.total} messages to "{counted.destination}" (up to {max_rate} a second{duration})'
    if sys.stdin.isatty():
        confirm(plan)
    else:
        note(plan)


def start(request: pb.StartReplayRequest) -> pb.Replay:
    """Start a replay. Its id is the request's, so that a lost answer leaves a way to find out."""
    try:
        return run(lambda service: _start(service, request))
    except CommandError as error:
        hint = f"should it have started all the same, this tells: mo replay show {request.replay_id}"
        raise CommandError(*error.lines, hint) from error


def watch(ctx: click.Context, replay_id: str) -> None:
    """Show how a replay goes on until it ends, print it, and end with 1 when it was cancelled."""
    try:
        ended = run(lambda service: _watch(service, replay_id))
    except KeyboardInterrupt:
        note(f"the replay goes on; {how_to_follow(replay_id)}")
        raise
    write_item(ended, replay_fields(ended))
    if ended.is_cancelled:
        note("the replay was cancelled; what it had queued by then is delivered")
    ctx.exit(1 if ended.is_cancelled else 0)


async def load(service: Connection, replay_id: str) -> pb.Replay:
    """Return how far a replay is."""
    request = pb.GetReplayRequest(replay_id=replay_id)
    return (await service.feed.GetReplay(request, timeout=service.timeout)).replay


async def list_replays(service: Connection, limit: int) -> list[pb.Replay]:
    """Return up to `limit` replays, newest first."""

    async def fetch_page(size: int, token: str) -> tuple[Sequence[pb.Replay], str]:
        request = pb.ListReplaysRequest(page_size=size, page_token=token)
        page = await service.feed.ListReplays(request, timeout=service.timeout)
        return page.replays, page.next_page_token

    return await collect(fetch_page, limit)


async def _start(service: Connection, request: pb.StartReplayRequest) -> pb.Replay:
    return (await service.feed.StartReplay(request, timeout=service.timeout)).replay


async def _watch(service: Connection, replay_id: str) -> pb.Replay:
    replay = await load(service, replay_id)
    note(f"watching replay {replay_id}; it doesn't need us: Ctrl-C ends the watching only")
    shown = 0
    with progress("replaying", replay.total) as advance:
        while True:
            advance(replay.queued - shown)
            shown = replay.queued
            if replay.HasField("end_time"):
                return replay
            await asyncio.sleep(POLL_SECONDS)
            replay = await load(service, replay_id)


def how_to_follow(replay_id: str) -> str:
    """Say how to watch a replay, and how to end it."""
    return f"watch it with: mo replay watch {replay_id}; end it with: mo replay cancel {replay_id}"
