"""Looks at what people wrote: recorded before anything is shown."""

from __future__ import annotations

from typing import Any, Protocol

from service.models import AuditEntry
from service.rpc.actors import actor_of


class AuditStore(Protocol):
    """What recording a look needs of the store."""

    async def audit(self, entry: AuditEntry) -> None:
        """See `AsideStore.audit`."""


async def record(store: AuditStore, context: Any, what: str, **details: object) -> None:
    """Write who is about to be shown the text of what into the audit log; details that are empty are left out.

    Raises what the store does: then nothing must be shown.
    """
    facts = {name: str(value) for name, value in details.items() if value}
    await store.audit(AuditEntry(actor_of(context), "look-at-text", {"of": what} | facts))
