"""Erasure: removes a sender from everything that is stored, a bounded step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.models import Conversation, ErasedCounts
from service.store.contract import AsideStore, RetentionStore

MESSAGES_A_STEP = 250
"""A transaction of about 10 ms, for which ingest waits."""

MESSAGES_A_CALL = 10_000
REQUESTS_A_STEP = 50
"""A request may have 256 KiB."""

IsFrom = Callable[[bytes, str], bool]
"""Tells whether a quarantined request, serialised, is from a sender or names it."""


class ErasureStore(AsideStore, RetentionStore, Protocol):
    """What erasure needs of the store."""


class Erased(NamedTuple):
    """What one call removed."""

    counts: ErasedCounts
    quarantined: int


async def erase_sender(store: ErasureStore, conversation: Conversation, is_from: IsFrom, *, actor: str) -> Erased:
    """Remove up to about 10,000 messages of a sender, and what is in quarantine of it."""
    total = ErasedCounts(is_complete=False)
    while not total.is_complete and total.messages < MESSAGES_A_CALL:
        total = _add(total, await store.erase_sender(conversation, limit=MESSAGES_A_STEP, actor=actor))
    # Only now, so that no retry makes a message again of what is removed: its sender counts as erased by now.
    return Erased(total, await _erase_quarantined(store, conversation, is_from, actor))


async def _erase_quarantined(store: ErasureStore, conversation: Conversation, is_from: IsFrom, actor: str) -> int:
    channel_config_id, sender = conversation
    after = discarded = 0
    while page := await store.find_quarantined_after(channel_config_id, after=after, limit=REQUESTS_A_STEP):
        found = [request.entry_id for request in page if is_from(request.payload, sender)]
        if found:
            discarded += await store.discard_quarantined(found, actor=actor)
        after = page[-1].number
    return discarded


def _add(total: ErasedCounts, step: ErasedCounts) -> ErasedCounts:
    return ErasedCounts(
        messages=total.messages + step.messages,
        deliveries=total.deliveries + step.deliveries,
        dead_letters=total.dead_letters + step.dead_letters,
        held=total.held + step.held,
        clashes=total.clashes + step.clashes,
        is_complete=step.is_complete,
    )
