"""The quarantine's SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from service.models import Conversation, QuarantinedRequest, QuarantineKey, QuarantinePage
from service.store.postgres import audit, conversations, erasure
from service.store.postgres.session import Transaction

MOST_REFUSED = 10_000
KEPT_MICROSECONDS = 30 * 24 * 3600 * 1_000_000
PRUNED_AT_ONCE = 200

ADDING_LOCK = 0x4149_4D03
"""The first half of the key of the lock of those who add some. (A lock of the table would get in autovacuum's way.)"""

LOCK = "SELECT pg_advisory_xact_lock($1, 0)"

INSERT = """
INSERT INTO quarantine (entry_id, channel_config_id, is_accepted, payload, stored_at)
SELECT *, $5::bigint FROM unnest($1::text[], $2::text[], $3::boolean[], $4::bytea[])
ON CONFLICT (entry_id) DO NOTHING
"""

SETTLE = """
UPDATE quarantine SET settled_at = $1, payload = ''
WHERE number IN (
  SELECT number FROM quarantine WHERE entry_id = ANY ($2::text[]) AND settled_at IS NULL ORDER BY number FOR UPDATE
) AND settled_at IS NULL
RETURNING number
"""

# Refused requests past the newest 10,000 or older than 30 days: a few with every new one.
PRUNE_REFUSED = """
DELETE FROM quarantine WHERE number IN (
  SELECT number FROM quarantine WHERE settled_at IS NULL AND NOT is_accepted AND (
    stored_at < $1 OR number <= coalesce((
      SELECT number FROM quarantine WHERE settled_at IS NULL AND NOT is_accepted ORDER BY number DESC OFFSET $2 LIMIT 1
    ), 0)
  ) ORDER BY number LIMIT $3 FOR UPDATE SKIP LOCKED
)
"""

PRUNE_SETTLED = """
DELETE FROM quarantine WHERE number IN (
  SELECT number FROM quarantine WHERE settled_at < $1 ORDER BY settled_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


async def quarantine(transaction: Transaction, requests: Sequence[QuarantinedRequest]) -> int:
    """See `AsideStore.quarantine`."""
    connection = transaction.connection
    kept, dropped = await _part_erased(transaction, requests)
    for channel, count in dropped.items():
        await erasure.note_dropped(transaction, channel, count, of="requests")
    await connection.execute(LOCK, ADDING_LOCK)
    if kept:
        columns = zip(*(request[:4] for request in kept), strict=True)
        done = await connection.execute(INSERT, *([*column] for column in columns), transaction.now)
        transaction.answers_by_others = done != f"INSERT 0 {len(kept)}"
    oldest = transaction.now - KEPT_MICROSECONDS
    await connection.execute(PRUNE_REFUSED, oldest, MOST_REFUSED, PRUNED_AT_ONCE)
    await connection.execute(PRUNE_SETTLED, oldest, PRUNED_AT_ONCE)
    return dropped.total()


async def _part_erased(
    transaction: Transaction, requests: Sequence[QuarantinedRequest]
) -> tuple[list[QuarantinedRequest], Counter[str]]:
    """Return what is to be kept, and how much is dropped of each channel; nobody is erased before the commit."""
    senders = {request.entry_id: _conversations(request) for request in requests}
    brought = {conversation for each in senders.values() for conversation in each}
    if not brought:
        return [*requests], Counter()
    await conversations.share(transaction, brought)
    erased_at = await erasure.find_erased(transaction, brought)
    erased = {
        request.entry_id
        for request in requests
        if any(request.received_at <= erased_at.get(each, -1) for each in senders[request.entry_id])
    }
    dropped = Counter(request.channel_config_id for request in requests if request.entry_id in erased)
    return [request for request in requests if request.entry_id not in erased], dropped


def _conversations(request: QuarantinedRequest) -> list[Conversation]:
    return [Conversation(request.channel_config_id, sender) for sender in request.senders]


async def settle_quarantined(transaction: Transaction, entry_ids: Sequence[str]) -> int:
    """Settle requests, and forget what was in them; return how many weren't settled yet."""
    return len(await transaction.connection.fetch(SETTLE, transaction.now, entry_ids))


async def discard(transaction: Transaction, entry_ids: Sequence[str], actor: str) -> int:
    """See `AsideStore.discard_quarantined`."""
    discarded = await settle_quarantined(transaction, entry_ids)
    if discarded:
        await audit.write(transaction, actor, "quarantine-discard", requests=discarded)
    return discarded


async def list_quarantined(
    transaction: Transaction, channel_config_id: str | None, before: int | None, limit: int
) -> QuarantinePage:
    """See `AsideStore.list_quarantined`."""
    condition, bindings = _of_channel(channel_config_id)
    rows: list[Any] = await transaction.connection.fetch(
        f"SELECT number, payload FROM quarantine WHERE settled_at IS NULL AND number < $1 {condition} "
        "ORDER BY number DESC LIMIT $2",
        before or 2**63 - 1,
        limit + 1,
        *bindings,
    )
    page = rows[:limit]
    return QuarantinePage([payload for _, payload in page], page[-1][0] if len(rows) > limit else None)


def _of_channel(channel_config_id: str | None) -> tuple[str, tuple[str, ...]]:
    # A condition that holds for NULL too would keep the planner from choosing the channel's own index.
    return ("", ()) if channel_config_id is None else ("AND channel_config_id = $3", (channel_config_id,))


async def find_quarantined(transaction: Transaction, entry_id: str) -> bytes | None:
    """See `AsideStore.find_quarantined`."""
    payload: bytes | None = await transaction.connection.fetchval(
        "SELECT payload FROM quarantine WHERE entry_id = $1 AND settled_at IS NULL", entry_id
    )
    return payload


async def find_quarantined_after(
    transaction: Transaction, channel_config_id: str, after: int, limit: int
) -> list[QuarantineKey]:
    """See `AsideStore.find_quarantined_after`."""
    rows: list[Any] = await transaction.connection.fetch(
        "SELECT number, entry_id, payload FROM quarantine WHERE settled_at IS NULL AND channel_config_id = $1 "
        "AND number > $2 ORDER BY number LIMIT $3",
        channel_config_id,
        after,
        limit,
    )
    return [QuarantineKey(*row) for row in rows]
