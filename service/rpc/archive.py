"""`MessageArchive` over gRPC."""

from __future__ import annotations

from typing import Any

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_archive_pb2_grpc import MessageArchiveServicer

from service.errors import InvalidRequest, NotFound, Violation
from service.models import MessageFilter
from service.rpc import paging
from service.rpc.convert import MESSAGE_STATES_BACK, from_timestamp, to_stored_message
from service.store.contract import MessageStore


class ArchiveServicer(MessageArchiveServicer):
    """Shows what is stored; people's words only where they are asked for."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    async def GetMessage(self, request: pb.GetMessageRequest, _context: Any) -> pb.GetMessageResponse:
        stored = await self._store.find_message(request.channel_config_id, request.message_sid)
        if stored is None:
            raise NotFound("no such message in this channel; see: mo message list --channel ID")
        return pb.GetMessageResponse(message=to_stored_message(stored, include_text=request.include_text))

    async def ListMessages(self, request: pb.ListMessagesRequest, _context: Any) -> pb.ListMessagesResponse:
        limit = paging.page_size(request.page_size)
        page = await self._store.list_messages(_filter_of(request), before=_before(request.page_token), limit=limit)
        return pb.ListMessagesResponse(
            messages=[to_stored_message(stored, include_text=request.include_text) for stored in page.messages],
            next_page_token="" if page.next_before is None else paging.write_token(str(page.next_before)),
        )


def _filter_of(request: pb.ListMessagesRequest) -> MessageFilter:
    if request.sender and not request.channel_config_id:
        raise InvalidRequest([Violation("channel_config_id", "is required with sender")])
    return MessageFilter(
        channel_config_id=request.channel_config_id or None,
        sender=request.sender or None,
        start_at=from_timestamp(request.start_time) if request.HasField("start_time") else None,
        end_at=from_timestamp(request.end_time) if request.HasField("end_time") else None,
        destination=request.destination or None,
        state=MESSAGE_STATES_BACK.get(request.state),
    )


def _before(page_token: str) -> int | None:
    position = paging.read_token(page_token)
    if not position:
        return None
    if not (position.isascii() and position.isdigit() and len(position) < 19):
        raise InvalidRequest([Violation("page_token", "is none of ours; start again without one")])
    return int(position)
