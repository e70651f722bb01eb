"""Releases and discards held messages, a page at a time, for `mo held`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import click
import grpc
import grpc.aio
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_pb2 import HOLD_REASON_UNSPECIFIED, MessageKey

from shim.cli import archive
from shim.cli.connection import Connection, run
from shim.cli.output import note, write_item
from shim.cli.progress import progress
from shim.cli.stored_message import HOLD_REASONS, state_text

MOST_KEYS = 1_000
"""How many single messages the service takes in one call: more would not keep their order."""

_LOOKED_UP_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Selected:
    """Which held messages: the named ones of a channel, or else all that have the channel and the reason given."""

    named_channel: str = ""
    message_sids: tuple[str, ...] = ()
    channel_config_id: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.message_sids:
            return f'{len(self.message_sids)} messages of channel "{self.named_channel}"'
        channel = f' of channel "{self.channel_config_id}"' if self.channel_config_id else ""
        return f"all held messages{channel}{f' ({self.reason})' if self.reason else ''}"

    @property
    def keys(self) -> list[MessageKey]:
        """The named messages, each once."""
        return [MessageKey(channel_config_id=self.named_channel, message_sid=sid) for sid in self._sids]

    @property
    def everything_alike(self) -> pb.HeldSelection:
        """The selection by channel and reason."""
        return pb.HeldSelection(
            channel_config_id=self.channel_config_id,
            hold_reason=HOLD_REASONS.get(self.reason, HOLD_REASON_UNSPECIFIED),
            is_everything=not (self.channel_config_id or self.reason),
        )

    @property
    def _sids(self) -> Sequence[str]:
        return list(dict.fromkeys(self.message_sids))


def release(ctx: click.Context, selected: Selected, destination: str = "") -> None:
    """Release them, print how many were and how many stay, and end with 1 unless all of them were."""
    released, still_held, faults = run(lambda service: _release(service, selected, destination))
    write_item(
        {"released": released, "still_held": still_held},
        {"released": str(released), "still held": str(still_held)},
    )
    for fault in faults:
        note(fault)
    if still_held:
        note(
            "what stays held is wanted by no route, and its channel has no destination (or is deleted): "
            "see mo route explain; set routes, or say where it goes with mo held release --destination NAME"
        )
    ctx.exit(1 if still_held or faults else 0)


def discard(ctx: click.Context, selected: Selected) -> None:
    """Discard them, print how many were, and end with 1 unless all of them were held."""
    discarded, faults = run(lambda service: _discard(service, selected))
    write_item({"discarded": discarded}, {"discarded": str(discarded)})
    for fault in faults:
        note(fault)
    ctx.exit(1 if faults else 0)


async def _release(service: Connection, selected: Selected, destination: str) -> tuple[int, int, list[str]]:
    selection, faults = await _select(service, selected)
    request = pb.ReleaseHeldRequest(selection=selection, destination=destination)
    released = still_held = 0
    is_more = True
    with progress("releasing", await _find_total(service, selection)) as advance:
        while is_more:
            page = await service.archive.ReleaseHeld(request, timeout=service.timeout)
            released += page.released
            still_held += page.still_held
            advance(page.released + page.still_held)
            request.page_token = page.next_page_token
            is_more = bool(page.next_page_token)
    return released, still_held, faults


async def _discard(service: Connection, selected: Selected) -> tuple[int, list[str]]:
    selection, faults = await _select(service, selected)
    request = pb.DiscardHeldRequest(selection=selection)
    discarded = 0
    is_more = True
    with progress("discarding", await _find_total(service, selection)) as advance:
        while is_more:
            page = await service.archive.DiscardHeld(request, timeout=service.timeout)
            discarded += page.discarded
            advance(page.discarded)
            request.page_token = page.next_page_token
            is_more = bool(page.next_page_token)
    return discarded, faults


async def _select(service: Connection, selected: Selected) -> tuple[pb.HeldSelection, list[str]]:
    """Return what to ask for, and a line for each named message that isn't held, which the service passes over."""
    if not selected.message_sids:
        return selected.everything_alike, []
    limit = asyncio.Semaphore(_LOOKED_UP_AT_ONCE)
    keys = selected.keys
    faults = await asyncio.gather(*(_find_fault(service, key, limit) for key in keys))
    return pb.HeldSelection(keys=keys), [fault for fault in faults if fault]


async def _find_fault(service: Connection, key: MessageKey, limit: asyncio.Semaphore) -> str | None:
    """Tell why a message can't be settled: it isn't held."""
    try:
        async with limit:
            found = await archive.load_message(service, key.channel_config_id, key.message_sid)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return f'there is no message "{key.message_sid}" in channel "{key.channel_config_id}"; see: mo held list'
    if found.state == pb.MESSAGE_STATE_HELD:
        return None
    return f'message "{key.message_sid}" is not held: it is {state_text(found)}; only held ones can be settled'


async def _find_total(service: Connection, selection: pb.HeldSelection) -> int | None:
    if selection.is_everything:
        return (await service.archive.GetSummary(pb.GetSummaryRequest(), timeout=service.timeout)).held
    return len(selection.keys) or None
