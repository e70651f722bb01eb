"""Reads, redrives and discards dead letters, a page at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1.message_pb2 import MessageKey

from shim.cli.connection import Connection
from shim.cli.destinations import load_destinations
from shim.cli.paging import collect
from shim.cli.progress import progress

MOST_KEYS = 1_000
"""How many single messages the service takes in one call: more would not keep their order."""

_LOOKED_UP_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Selected:
    """Which dead letters: those of the named messages, else all that have the destination and the channel given.

    Named ones are those of one destination and one channel, the same fields.
    """

    destination: str = ""
    channel_config_id: str = ""
    message_sids: tuple[str, ...] = ()

    def __str__(self) -> str:
        of_destination = f' of destination "{self.destination}"' if self.destination else ""
        of_channel = f' of channel "{self.channel_config_id}"' if self.channel_config_id else ""
        what = f"{len(self.message_sids)} dead letters" if self.message_sids else "all dead letters"
        return f"{what}{of_destination}{of_channel}"

    def to_request(self) -> pb.DeadLetterSelection:
        """Return the selection as the service takes it."""
        return pb.DeadLetterSelection(
            destination=self.destination,
            keys=self.keys,
            channel_config_id="" if self.message_sids else self.channel_config_id,
            is_everything=not (self.destination or self.channel_config_id),
        )

    @property
    def keys(self) -> list[MessageKey]:
        """The named messages, each once."""
        sids = dict.fromkeys(self.message_sids)
        return [MessageKey(channel_config_id=self.channel_config_id, message_sid=sid) for sid in sids]


async def list_dead_letters(
    service: Connection, request: pb.ListDeadLettersRequest, limit: int | None = None
) -> list[pb.DeadLetter]:
    """Return up to `limit` dead letters, newest first; all of them without one."""

    async def fetch_page(size: int, token: str) -> tuple[Sequence[pb.DeadLetter], str]:
        request.page_size, request.page_token = size, token
        page = await service.feed.ListDeadLetters(request, timeout=service.timeout)
        return page.dead_letters, page.next_page_token

    return await collect(fetch_page, limit)


async def redrive(service: Connection, selected: Selected) -> tuple[int, list[str]]:
    """Put dead letters back; returns how many were, and a line for each named message that has none there."""
    faults = await _find_faults(service, selected)
    request = pb.RedriveDeadLettersRequest(selection=selected.to_request())
    redriven = 0
    is_more = True
    with progress("redriving", await _find_total(service, selected)) as advance:
        while is_more:
            page = await service.feed.RedriveDeadLetters(request, timeout=service.timeout)
            redriven += page.redriven
            advance(page.redriven)
            request.page_token = page.next_page_token
            is_more = bool(page.next_page_token)
    return redriven, faults


async def discard(service: Connection, selected: Selected) -> tuple[int, list[str]]:
    """Settle dead letters without delivering them; returns what `redrive` does."""
    faults = await _find_faults(service, selected)
    request = pb.DiscardDeadLettersRequest(selection=selected.to_request())
    discarded = 0
    is_more = True
    with progress("discarding", await _find_total(service, selected)) as advance:
        while is_more:
            page = await service.feed.DiscardDeadLetters(request, timeout=service.timeout)
            discarded += page.discarded
            advance(page.discarded)
            request.page_token = page.next_page_token
            is_more = bool(page.next_page_token)
    return discarded, faults


async def _find_faults(service: Connection, selected: Selected) -> list[str]:
    limit = asyncio.Semaphore(_LOOKED_UP_AT_ONCE)
    faults = await asyncio.gather(*(_find_fault(service, selected.destination, key, limit) for key in selected.keys))
    return [fault for fault in faults if fault]


async def _find_fault(service: Connection, destination: str, key: MessageKey, limit: asyncio.Semaphore) -> str | None:
    """Tell why nothing can be done about a message: it is no dead letter of the destination."""
    request = pb.ListDeadLettersRequest(
        destination=destination, channel_config_id=key.channel_config_id, message_sid=key.message_sid
    )
    async with limit:
        found = await list_dead_letters(service, request, 1)
    return None if found else not_there(destination, key.channel_config_id, key.message_sid)


def not_there(destination: str, channel_config_id: str, message_sid: str) -> str:
    """Say that a message is no dead letter of a destination, and where to see what it is."""
    return (
        f'message "{message_sid}" is no dead letter of destination "{destination}"; '
        f"see: mo message trace {channel_config_id} {message_sid}"
    )


async def _find_total(service: Connection, selected: Selected) -> int | None:
    """Return how many there are to settle; None when only settling them tells."""
    if selected.message_sids or selected.channel_config_id:
        return len(selected.keys) or None
    known = await load_destinations(service)
    return sum(item.dead_letters for item in known if selected.destination in {"", item.name})
