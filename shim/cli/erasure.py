"""Erases a sender: call after call, until nothing is left."""

from aicc.mo.v1 import message_archive_pb2 as pb

from shim.cli.connection import Connection
from shim.cli.progress import progress

_COUNTS = ("messages", "deliveries", "dead_letters", "held", "clashes", "quarantined")


async def erase(service: Connection, request: pb.EraseSenderRequest, erased: pb.EraseSenderResponse) -> None:
    """Erase everything that is stored of the sender.

    `erased` is brought up to date with each call, so that it tells after a
    failure, too, what was removed.
    """
    with progress("erasing", None) as advance:
        while not erased.is_complete:
            step = await service.archive.EraseSender(request, timeout=service.timeout)
            for name in _COUNTS:
                setattr(erased, name, getattr(erased, name) + getattr(step, name))
            erased.is_complete = step.is_complete
            advance(step.messages)


def erased_fields(erased: pb.EraseSenderResponse) -> dict[str, str]:
    """Return a line for each kind of what was removed."""
    fields = {name.replace("_", " "): str(getattr(erased, name)) for name in _COUNTS}
    return {**fields, "complete": "yes" if erased.is_complete else "no"}


def is_nothing(erased: pb.EraseSenderResponse) -> bool:
    """Tell whether nothing was there to remove."""
    return not any(getattr(erased, name) for name in _COUNTS)
