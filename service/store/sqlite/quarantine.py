"""The quarantine's SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw

from service.models import Conversation, QuarantinedRequest, QuarantineKey, QuarantinePage
from service.store.sqlite import audit, erasure
from service.store.sqlite.writer import Transaction

MOST_REFUSED = 10_000
KEPT_MICROSECONDS = 30 * 24 * 3600 * 1_000_000
PRUNED_AT_ONCE = 200

INSERT = """
INSERT INTO quarantine (entry_id, channel_config_id, is_accepted, stored_at, payload) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (entry_id) DO NOTHING
"""

SETTLE = "UPDATE quarantine SET settled_at = ?, payload = x'' WHERE entry_id = ? AND settled_at IS NULL"

# Refused requests past the newest 10,000 or older than 30 days: a few with every new one.
PRUNE_REFUSED = """
DELETE FROM quarantine WHERE number IN (
  SELECT number FROM quarantine WHERE settled_at IS NULL AND is_accepted = 0 AND (
    stored_at < ?1 OR number <= coalesce((
      SELECT number FROM quarantine WHERE settled_at IS NULL AND is_accepted = 0 ORDER BY number DESC LIMIT 1 OFFSET ?2
    ), 0)
  ) ORDER BY number LIMIT ?3
)
"""

PRUNE_SETTLED = """
DELETE FROM quarantine WHERE number IN (
  SELECT number FROM quarantine WHERE settled_at < ? ORDER BY settled_at LIMIT ?
)
"""


def quarantine(transaction: Transaction, requests: Sequence[QuarantinedRequest]) -> int:
    """See `AsideStore.quarantine`."""
    connection = transaction.connection
    erased: Counter[str] = Counter()
    for request in requests:
        entry_id, channel_config_id, is_accepted, payload, *_ = request
        if _is_erased(transaction, request):
            erased[channel_config_id] += 1
        else:
            connection.execute(INSERT, (entry_id, channel_config_id, is_accepted, transaction.now, payload))
    for channel, count in erased.items():
        erasure.note_dropped(transaction, channel, count, of="requests")
    oldest = transaction.now - KEPT_MICROSECONDS
    connection.execute(PRUNE_REFUSED, (oldest, MOST_REFUSED, PRUNED_AT_ONCE))
    connection.execute(PRUNE_SETTLED, (oldest, PRUNED_AT_ONCE))
    return erased.total()


def _is_erased(transaction: Transaction, request: QuarantinedRequest) -> bool:
    conversations = [Conversation(request.channel_config_id, sender) for sender in request.senders]
    return any(erasure.is_erased(transaction, each, request.received_at) for each in conversations)


def settle_quarantined(transaction: Transaction, entry_ids: Sequence[str]) -> int:
    """Settle requests, and forget what was in them; return how many weren't settled yet."""
    settled = 0
    for entry_id in entry_ids:
        transaction.connection.execute(SETTLE, (transaction.now, entry_id))
        settled += transaction.connection.changes()
    return settled


def discard(transaction: Transaction, entry_ids: Sequence[str], actor: str) -> int:
    """See `AsideStore.discard_quarantined`."""
    discarded = settle_quarantined(transaction, entry_ids)
    if discarded:
        audit.write(transaction, actor, "quarantine-discard", requests=discarded)
    return discarded


def list_quarantined(
    connection: apsw.Connection, channel_config_id: str | None, before: int | None, limit: int
) -> QuarantinePage:
    """See `AsideStore.list_quarantined`."""
    rows: list[Any] = connection.execute(
        "SELECT number, payload FROM quarantine WHERE settled_at IS NULL AND number < ?1 "
        "AND (?2 IS NULL OR channel_config_id = ?2) ORDER BY number DESC LIMIT ?3",
        (before or 2**63 - 1, channel_config_id, limit + 1),
    ).fetchall()
    page = rows[:limit]
    return QuarantinePage([payload for _, payload in page], page[-1][0] if len(rows) > limit else None)


def find_quarantined(connection: apsw.Connection, entry_id: str) -> bytes | None:
    """See `AsideStore.find_quarantined`."""
    payload: bytes | None = connection.execute(
        "SELECT payload FROM quarantine WHERE entry_id = ? AND settled_at IS NULL", (entry_id,)
    ).get
    return payload


def find_quarantined_after(
    connection: apsw.Connection, channel_config_id: str, after: int, limit: int
) -> list[QuarantineKey]:
    """See `AsideStore.find_quarantined_after`."""
    rows = connection.execute(
        "SELECT number, entry_id, payload FROM quarantine WHERE settled_at IS NULL AND channel_config_id = ? "
        "AND number > ? ORDER BY number LIMIT ?",
        (channel_config_id, after, limit),
    )
    return [QuarantineKey(*row) for row in rows]
