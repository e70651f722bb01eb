"""Looks destinations up, and remarks on a name that is most likely a slip."""

from collections.abc import Iterable, Sequence

from aicc.mo.v1.message_feed_pb2 import Destination, ListDestinationsRequest

from shim.cli.connection import Connection
from shim.cli.output import note

_NAMES_SHOWN = 10


async def load_destinations(service: Connection) -> Sequence[Destination]:
    """Return all destinations, in the order of their names."""
    response = await service.feed.ListDestinations(ListDestinationsRequest(), timeout=service.timeout)
    return response.destinations


def note_if_unknown(name: str, known: Iterable[Destination]) -> None:
    """Tell the person when no destination has that name: whatever goes there, nobody may be waiting for it."""
    names = [item.name for item in known]
    if name not in names:
        note(f'no channel or route names the destination "{name}" so far; there are: {names_text(names)}')


def names_text(names: Sequence[str]) -> str:
    """Return the first few names, or that there are none."""
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "") or "none yet"
