"""`MessageArchive` over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.message_archive_pb2_grpc import MessageArchiveServicer

from service import checks
from service.erasure import erase_sender
from service.errors import InvalidRequest, NotFound, Violation
from service.models import AuditEntry, Conversation, HeldSelection, MessageFilter, MessageKey
from service.operations import HeldMessages, ReRouteOutcome
from service.rpc import looks, paging
from service.rpc.actors import actor_of
from service.rpc.convert import (
    HOLD_REASONS_BACK,
    MESSAGE_STATES_BACK,
    envelope_of,
    from_timestamp,
    names_sender,
    to_stored_message,
    to_timestamp,
)
from service.store.audit_details import shorten
from service.store.contract import Store

MOST_AT_ONCE = 1000

RE_ROUTE_OUTCOMES = {outcome: pb.ReRouteOutcome.Value(f"RE_ROUTE_OUTCOME_{outcome.name}") for outcome in ReRouteOutcome}


class ArchiveServicer(MessageArchiveServicer):
    """Shows what is stored; people's words only where they are asked for."""

    def __init__(self, store: Store, held: HeldMessages, find_concerns: Callable[[], Sequence[str]]) -> None:
        self._store = store
        self._held = held
        self._find_concerns = find_concerns

    async def GetMessage(self, request: pb.GetMessageRequest, context: Any) -> pb.GetMessageResponse:
        stored = await self._store.find_message(request.channel_config_id, request.message_sid)
        if stored is None:
            raise NotFound("no such message in this channel; see: mo message list --channel ID")
        shown = to_stored_message(stored, include_text=request.include_text, include_attempts=True)
        for payload, committed_at in await self._store.find_clashes(stored.sequence):
            message = message_pb.MoMessage.FromString(payload)
            shown.clashes.add(
                message=message if request.include_text else envelope_of(message),
                commit_time=to_timestamp(committed_at),
            )
        if request.include_text:
            channel, sid = request.channel_config_id, request.message_sid
            await looks.record(self._store, context, "message", channel=channel, message_sid=sid)
        return pb.GetMessageResponse(message=shown)

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Any) -> pb.ListMessagesResponse:
        limit = paging.page_size(request.page_size)
        page = await self._store.list_messages(
            _filter_of(request), before=paging.read_position(request.page_token), limit=limit
        )
        if request.include_text and page.messages:
            await looks.record(
                self._store,
                context,
                "messages",
                channel=request.channel_config_id,
                sender=shorten(request.sender) if request.sender else "",
                destination=request.destination,
                shown=len(page.messages),
            )
        return pb.ListMessagesResponse(
            messages=[to_stored_message(stored, include_text=request.include_text) for stored in page.messages],
            next_page_token=paging.write_position(page.next_before),
        )

    async def ReleaseHeld(self, request: pb.ReleaseHeldRequest, context: Any) -> pb.ReleaseHeldResponse:
        if request.destination:
            checks.refuse(checks.check_destination(request.destination))
        outcome = await self._held.release(
            _selection_of(request.selection),
            destination=request.destination,
            after=paging.read_position(request.page_token) or 0,
            actor=actor_of(context),
        )
        return pb.ReleaseHeldResponse(
            released=outcome.settled,
            still_held=outcome.still_held,
            next_page_token=paging.write_position(outcome.next_after),
        )

    async def ReRoute(self, request: pb.ReRouteRequest, context: Any) -> pb.ReRouteResponse:
        if not 1 <= len(request.keys) <= MOST_AT_ONCE:
            raise InvalidRequest([Violation("keys", f"must be 1 to {MOST_AT_ONCE}")])
        keys = [MessageKey(key.channel_config_id, key.message_sid) for key in request.keys]
        results = await self._held.re_route(keys, actor=actor_of(context))
        return pb.ReRouteResponse(
            results=[
                pb.ReRouteResult(
                    outcome=RE_ROUTE_OUTCOMES[outcome],
                    route_id=decision.route_id if decision else "",
                    destinations=decision.destinations if decision else (),
                )
                for outcome, decision in results
            ]
        )

    async def DiscardHeld(self, request: pb.DiscardHeldRequest, context: Any) -> pb.DiscardHeldResponse:
        outcome = await self._held.discard(
            _selection_of(request.selection),
            after=paging.read_position(request.page_token) or 0,
            actor=actor_of(context),
        )
        return pb.DiscardHeldResponse(
            discarded=outcome.settled, next_page_token=paging.write_position(outcome.next_after)
        )

    async def ListQuarantined(self, request: pb.ListQuarantinedRequest, context: Any) -> pb.ListQuarantinedResponse:
        page = await self._store.list_quarantined(
            request.channel_config_id or None,
            before=paging.read_position(request.page_token),
            limit=paging.page_size(request.page_size),
        )
        if request.include_text and page.payloads:
            channel, shown = request.channel_config_id, len(page.payloads)
            await looks.record(self._store, context, "quarantined requests", channel=channel, shown=shown)
        return pb.ListQuarantinedResponse(
            requests=[_to_quarantined(payload, request.include_text) for payload in page.payloads],
            next_page_token=paging.write_position(page.next_before),
        )

    async def GetQuarantined(self, request: pb.GetQuarantinedRequest, context: Any) -> pb.GetQuarantinedResponse:
        payload = await self._store.find_quarantined(request.entry_id)
        if payload is None:
            raise NotFound("no such request in quarantine, or it is settled; see: mo quarantine list")
        if request.include_text:
            await looks.record(self._store, context, "quarantined request", entry_id=request.entry_id)
        return pb.GetQuarantinedResponse(request=_to_quarantined(payload, request.include_text))

    async def DiscardQuarantined(
        self, request: pb.DiscardQuarantinedRequest, context: Any
    ) -> pb.DiscardQuarantinedResponse:
        if not 1 <= len(request.entry_ids) <= MOST_AT_ONCE:
            raise InvalidRequest([Violation("entry_ids", f"must be 1 to {MOST_AT_ONCE}")])
        discarded = await self._store.discard_quarantined(request.entry_ids, actor=actor_of(context))
        return pb.DiscardQuarantinedResponse(discarded=discarded)

    async def GetSummary(self, _request: pb.GetSummaryRequest, _context: Any) -> pb.GetSummaryResponse:
        summary = await self._store.load_summary(most_channels=MOST_AT_ONCE)
        response = pb.GetSummaryResponse(
            held=summary.held, quarantined=summary.quarantined, concerns=self._find_concerns()
        )
        for name, last_message_at, messages, recovered, clashes in summary.channels:
            activity = response.channels.add(
                channel_config_id=name, messages=messages, recovered=recovered, clashes=clashes
            )
            if last_message_at is not None:
                activity.last_message_time.CopyFrom(to_timestamp(last_message_at))
        return response

    async def EraseSender(self, request: pb.EraseSenderRequest, context: Any) -> pb.EraseSenderResponse:
        checks.refuse([*checks.check_channel_id(request.channel_config_id), *checks.check_sender(request.sender)])
        conversation = Conversation(request.channel_config_id, request.sender)
        counts, quarantined = await erase_sender(self._store, conversation, names_sender, actor=actor_of(context))
        return pb.EraseSenderResponse(**counts._asdict(), quarantined=quarantined)

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, _context: Any) -> pb.ListAuditEntriesResponse:
        limit = paging.page_size(request.page_size)
        entries = await self._store.list_audit(
            request.action or None, before=paging.read_position(request.page_token), limit=limit
        )
        return pb.ListAuditEntriesResponse(
            entries=[_to_audit_entry(entry) for entry in entries],
            next_page_token=paging.write_position(entries[-1].number if len(entries) == limit else None),
        )


def _selection_of(selection: pb.HeldSelection) -> HeldSelection:
    if len(selection.keys) > MOST_AT_ONCE:
        raise InvalidRequest([Violation("selection.keys", f"must be at most {MOST_AT_ONCE}")])
    if not (selection.keys or selection.channel_config_id or selection.hold_reason or selection.is_everything):
        raise InvalidRequest([Violation("selection", "must name messages, a channel, a reason, or is_everything")])
    return HeldSelection(
        tuple(MessageKey(key.channel_config_id, key.message_sid) for key in selection.keys),
        selection.channel_config_id or None,
        HOLD_REASONS_BACK.get(selection.hold_reason),
    )


def _to_quarantined(payload: bytes, include_text: bool) -> ingest_pb.QuarantinedRequest:
    request = ingest_pb.QuarantinedRequest.FromString(payload)
    if not include_text:
        request.ClearField("body")
        request.ClearField("headers")
    return request


def _to_audit_entry(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(time=to_timestamp(entry.at), actor=entry.actor, action=entry.action, details=entry.details)


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
