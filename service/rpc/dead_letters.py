"""`MessageFeed` over gRPC: dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedServicer

from service.errors import InvalidRequest, Violation
from service.models import DeadLetter, DeadLetterSelection, MessageKey
from service.rpc import looks, paging
from service.rpc.actors import actor_of
from service.rpc.convert import envelope_of, to_attempt, to_timestamp
from service.store.contract import Store

MOST_AT_ONCE = 1000
MOST_BYTES_IN_A_PAGE = 2 * 1024 * 1024


class DeadLetterCalls(MessageFeedServicer):
    """Shows dead letters, and lets operators settle them."""

    def __init__(self, store: Store) -> None:
        self.__store = store

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Any) -> pb.ListDeadLettersResponse:
        limit = paging.page_size(request.page_size)
        found = await self.__store.list_dead_letters(
            _filter_of(request), before=paging.read_position(request.page_token), limit=limit
        )
        shown = [_to_dead_letter(entry, include_text=request.include_text) for entry in found]
        count = len(shown) if request.message_sid else _count_fitting(shown)
        if request.include_text and count:
            await looks.record(
                self.__store,
                context,
                "dead letters",
                destination=request.destination,
                channel=request.channel_config_id,
                message_sid=request.message_sid,
                shown=count,
            )
        is_last = bool(request.message_sid) or (count == len(found) and len(found) < limit)
        return pb.ListDeadLettersResponse(
            dead_letters=shown[:count],
            next_page_token="" if is_last else paging.write_position(found[count - 1].number),
        )

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, context: Any
    ) -> pb.RedriveDeadLettersResponse:
        page = await self.__store.redrive(
            _selection_of(request.selection),
            after=paging.read_position(request.page_token) or 0,
            limit=MOST_AT_ONCE,
            actor=actor_of(context),
        )
        return pb.RedriveDeadLettersResponse(
            redriven=page.settled, next_page_token=paging.write_position(page.next_after)
        )

    async def DiscardDeadLetters(
        self, request: pb.DiscardDeadLettersRequest, context: Any
    ) -> pb.DiscardDeadLettersResponse:
        page = await self.__store.discard_dead_letters(
            _selection_of(request.selection),
            after=paging.read_position(request.page_token) or 0,
            limit=MOST_AT_ONCE,
            actor=actor_of(context),
        )
        return pb.DiscardDeadLettersResponse(
            discarded=page.settled, next_page_token=paging.write_position(page.next_after)
        )


def _count_fitting(entries: Sequence[pb.DeadLetter]) -> int:
    """Return how many make up a response that every client takes: one at least."""
    sizes = accumulate(entry.ByteSize() for entry in entries)
    return max(sum(size <= MOST_BYTES_IN_A_PAGE for size in sizes), min(len(entries), 1))


def _filter_of(request: pb.ListDeadLettersRequest) -> DeadLetterSelection:
    if request.message_sid and not request.channel_config_id:
        raise InvalidRequest([Violation("channel_config_id", "is required with message_sid")])
    keys = (MessageKey(request.channel_config_id, request.message_sid),) if request.message_sid else ()
    return DeadLetterSelection(request.destination or None, keys, request.channel_config_id or None)


def _selection_of(selection: pb.DeadLetterSelection) -> DeadLetterSelection:
    if len(selection.keys) > MOST_AT_ONCE:
        raise InvalidRequest([Violation("selection.keys", f"must be at most {MOST_AT_ONCE}")])
    if not (selection.keys or selection.destination or selection.channel_config_id or selection.is_everything):
        raise InvalidRequest([Violation("selection", "must name messages, a destination, a channel, or is_everything")])
    return DeadLetterSelection(
        selection.destination or None,
        tuple(MessageKey(key.channel_config_id, key.message_sid) for key in selection.keys),
        selection.channel_config_id or None,
    )


def _to_dead_letter(entry: DeadLetter, *, include_text: bool) -> pb.DeadLetter:
    message = message_pb.MoMessage.FromString(entry.payload)
    return pb.DeadLetter(
        destination=entry.destination,
        message=message if include_text else envelope_of(message),
        sequence=entry.sequence,
        dead_letter_time=to_timestamp(entry.dead_at),
        reason=entry.reason,
        attempts=[to_attempt(attempt) for attempt in entry.attempts],
        replayed=entry.is_replayed,
    )
