"""`MessageFeed` over gRPC: destinations and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedServicer

from service import checks
from service.feed import DestinationInUse, MessageFeed
from service.models import DestinationSettings
from service.rpc.actors import actor_of
from service.rpc.convert import seconds_of, to_timestamp
from service.store.contract import FeedStore

DURATIONS = {
    "ack_deadline": "ack_deadline_seconds",
    "min_backoff": "min_backoff_seconds",
    "max_backoff": "max_backoff_seconds",
    "retention": "retention_seconds",
}
VALUES = ("max_attempts", "backoff_jitter", "is_ordered")


class DestinationCalls(MessageFeedServicer):
    """Shows destinations, and changes how they deliver."""

    def __init__(self, feed: MessageFeed, store: FeedStore) -> None:
        self.__feed = feed
        self.__store = store

    async def ListDestinations(
        self, _request: pb.ListDestinationsRequest, _context: Any
    ) -> pb.ListDestinationsResponse:
        return pb.ListDestinationsResponse(
            destinations=[_to_destination(entry) for entry in await self.__feed.list_destinations()]
        )

    async def UpdateDestination(
        self, request: pb.UpdateDestinationRequest, context: Any
    ) -> pb.UpdateDestinationResponse:
        violations = list(checks.check_destination(request.name, "name"))
        given = _given(request.settings)

        def change(current: DestinationSettings) -> DestinationSettings:
            changed = replace(current, **given)
            checks.refuse([*violations, *checks.check_settings(changed)])
            return changed

        changed = await self.__store.update_destination(request.name, change, actor=actor_of(context))
        return pb.UpdateDestinationResponse(settings=_to_settings(changed))


def _given(settings: pb.DestinationSettings) -> Mapping[str, Any]:
    present = {descriptor.name: value for descriptor, value in settings.ListFields()}
    durations = {name: seconds_of(present[field]) for field, name in DURATIONS.items() if field in present}
    return durations | {field: present[field] for field in VALUES if field in present}


def _to_destination(entry: DestinationInUse) -> pb.Destination:
    status = entry.status
    destination = pb.Destination(
        name=status.name,
        backlog=status.backlog,
        leased=status.leased,
        consumers=entry.consumers,
        settings=_to_settings(status.settings),
        dead_letters=status.dead_letters,
        in_rate=entry.in_rate,
        out_rate=entry.out_rate,
        count_time=to_timestamp(status.counted_at),
    )
    if status.oldest_committed_at is not None:
        destination.oldest_commit_time.CopyFrom(to_timestamp(status.oldest_committed_at))
    return destination


def _to_settings(settings: DestinationSettings) -> pb.DestinationSettings:
    message = pb.DestinationSettings(**{field: getattr(settings, field) for field in VALUES})
    for field, name in DURATIONS.items():
        getattr(message, field).FromMicroseconds(round(getattr(settings, name) * 1_000_000))
    return message
