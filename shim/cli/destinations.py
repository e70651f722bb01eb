"""Looks destinations up, and remarks on what was counted a while ago, and on a name that is most likely a slip."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from aicc.mo.v1.message_feed_pb2 import Destination, ListDestinationsRequest

from shim.cli.connection import Connection
from shim.cli.output import note
from shim.cli.texts import seconds_text

_NAMES_SHOWN = 10
_OLD_SECONDS = 5.0
_MOST_FOR_EVERYBODY = 100_000
"""So much is counted for each answer, as `Destination.count_time` says."""


async def load_destinations(service: Connection) -> Sequence[Destination]:
    """Return all destinations, in the order of their names."""
    response = await service.feed.ListDestinations(ListDestinationsRequest(), timeout=service.timeout)
    return response.destinations


def note_if_old(items: Sequence[Destination], now: datetime) -> None:
    """Tell the person how old the figures of all destinations are when they weren't counted just now.

    `now` is of this machine, whose clock may be ahead of the service's: where little waits, nothing is said.
    """
    if sum(item.backlog + item.dead_letters for item in items) <= _MOST_FOR_EVERYBODY:
        return
    oldest = min((item.count_time.ToDatetime(UTC) for item in items if item.HasField("count_time")), default=now)
    age_seconds = (now - oldest).total_seconds()
    if age_seconds > _OLD_SECONDS:
        note(f"so much waits that it is counted now and then; by this machine's clock, {seconds_text(age_seconds)} ago")


def note_if_unknown(name: str, known: Iterable[Destination]) -> None:
    """Tell the person when no destination has that name: whatever goes there, nobody may be waiting for it."""
    names = [item.name for item in known]
    if name not in names:
        note(f'no channel or route names the destination "{name}" so far; there are: {names_text(names)}')


def names_text(names: Sequence[str]) -> str:
    """Return the first few names, or that there are none."""
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "") or "none yet"
