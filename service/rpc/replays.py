"""`MessageFeed` over gRPC: replays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedServicer

from service import checks
from service.errors import NotFound, Violation
from service.models import Replay, ReplaySelection
from service.rpc import paging
from service.rpc.actors import actor_of
from service.rpc.convert import from_timestamp, to_timestamp, to_timestamp_if_any
from service.signals import Signal
from service.store.contract import ReplayStore

DEFAULT_RATE = 100
MOST_RATE = 10_000
REPLAY_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


class ReplayCalls(MessageFeedServicer):
    """Starts replays, and shows how far they are. Fires `started` for each that begins."""

    def __init__(self, store: ReplayStore, started: Signal) -> None:
        self.__store = store
        self.__started = started

    async def StartReplay(self, request: pb.StartReplayRequest, context: Any) -> pb.StartReplayResponse:
        checks.refuse(_check(request))
        known = None if request.is_dry_run else await self.__store.find_replay(request.replay_id)
        if known is not None:  # which a repeat needs not count anew
            return pb.StartReplayResponse(replay=_to_replay(known))
        selection, actor = _selection_of(request.selection), actor_of(context)
        replay = Replay(
            replay_id=request.replay_id,
            destination=request.destination,
            selection=selection,
            max_rate=request.max_rate or DEFAULT_RATE,
            requested_by=actor,
            total=await self.__store.count_replay(request.destination, selection),
        )
        if not request.is_dry_run:
            replay = await self.__store.start_replay(replay, actor=actor)
            self.__started.fire()
        return pb.StartReplayResponse(replay=_to_replay(replay))

    async def GetReplay(self, request: pb.GetReplayRequest, _context: Any) -> pb.GetReplayResponse:
        return pb.GetReplayResponse(replay=_found(await self.__store.find_replay(request.replay_id)))

    async def ListReplays(self, request: pb.ListReplaysRequest, _context: Any) -> pb.ListReplaysResponse:
        page = await self.__store.list_replays(
            before=paging.read_position(request.page_token), limit=paging.page_size(request.page_size)
        )
        return pb.ListReplaysResponse(
            replays=[_to_replay(replay) for replay in page.replays],
            next_page_token=paging.write_position(page.next_before),
        )

    async def CancelReplay(self, request: pb.CancelReplayRequest, context: Any) -> pb.CancelReplayResponse:
        ended = await self.__store.cancel_replay(request.replay_id, actor=actor_of(context))
        return pb.CancelReplayResponse(replay=_found(ended))


def _check(request: pb.StartReplayRequest) -> Iterator[Violation]:
    if not request.is_dry_run and not REPLAY_ID.fullmatch(request.replay_id):
        yield Violation("replay_id", "must be 1 to 64 of A-Z a-z 0-9 -, for example a UUID")
    yield from checks.check_destination(request.destination)
    if not 0 <= request.max_rate <= MOST_RATE:
        yield Violation("max_rate", f"must be 1 to {MOST_RATE:,} messages a second, or 0 for {DEFAULT_RATE}")
    selection = request.selection
    has_start, has_end = selection.HasField("start_time"), selection.HasField("end_time")
    if not (has_start or has_end or selection.channel_config_id):
        yield Violation("selection", "must name a time, a channel or both")
    if has_start and has_end and from_timestamp(selection.start_time) >= from_timestamp(selection.end_time):
        yield Violation("selection.end_time", "must be after start_time")
    for field, value in (("sender", selection.sender), ("route_id", selection.route_id)):
        if value and not selection.channel_config_id:
            yield Violation("selection.channel_config_id", f"is required with {field}")


def _selection_of(selection: pb.ReplaySelection) -> ReplaySelection:
    return ReplaySelection(
        start_at=from_timestamp(selection.start_time) if selection.HasField("start_time") else None,
        end_at=from_timestamp(selection.end_time) if selection.HasField("end_time") else None,
        channel_config_id=selection.channel_config_id or None,
        sender=selection.sender or None,
        route_id=selection.route_id or None,
    )


def _to_replay(replay: Replay) -> pb.Replay:
    selection = replay.selection
    return pb.Replay(
        replay_id=replay.replay_id,
        destination=replay.destination,
        selection=pb.ReplaySelection(
            start_time=to_timestamp_if_any(selection.start_at),
            end_time=to_timestamp_if_any(selection.end_at),
            channel_config_id=selection.channel_config_id or "",
            sender=selection.sender or "",
            route_id=selection.route_id or "",
        ),
        max_rate=replay.max_rate,
        requested_by=replay.requested_by,
        start_time=to_timestamp(replay.started_at) if replay.started_at else None,
        end_time=to_timestamp_if_any(replay.ended_at),
        total=replay.total,
        queued=replay.queued,
        is_cancelled=replay.is_cancelled,
    )


def _found(replay: Replay | None) -> pb.Replay:
    if replay is None:
        raise NotFound("no replay has this id; see: mo replay list")
    return _to_replay(replay)
