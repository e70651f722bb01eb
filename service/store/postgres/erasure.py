"""The SQL of erasure: removes all that is stored of a sender, and keeps it from coming back."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import Any

from service.models import Conversation, ErasedCounts
from service.store.contract import GATEWAY
from service.store.postgres import audit, conversations, lanes
from service.store.postgres.removal import remove_messages
from service.store.postgres.session import Transaction

IS_REMEMBERED = "SELECT EXISTS (SELECT FROM erased_sender WHERE hash = $1)"

REMEMBER = """
INSERT INTO erased_sender (hash, erased_at) VALUES ($1, $2)
ON CONFLICT (hash) DO UPDATE SET erased_at = greatest(erased_sender.erased_at, excluded.erased_at)
"""

FIND = "SELECT hash, erased_at FROM erased_sender WHERE hash = ANY ($1::bytea[])"

# A replay of this conversation has nothing left to bring; its record tells no whole number.
FORGET_IN_REPLAYS = """
UPDATE replay SET ended_at = coalesce(ended_at, $1), selection = jsonb_set(selection, '{sender}', to_jsonb($2::text))
WHERE selection ->> 'channel_config_id' = $3 AND selection ->> 'sender' = $4
"""

END_ASSIGNMENT = "DELETE FROM assignment WHERE channel_config_id = $1 AND sender = $2"

OLDEST = """
SELECT sequence, hold_reason IS NOT NULL FROM message
WHERE channel_config_id = $1 AND sender = $2 ORDER BY sequence LIMIT $3
"""


async def erase_sender(transaction: Transaction, conversation: Conversation, limit: int, actor: str) -> ErasedCounts:
    """See `RetentionStore.erase_sender`. Has the conversation to itself.

    All lanes go at once, which costs little, so that none is left with a delivery of a message that is gone.
    Differs from SQLite in that PostgreSQL overwrites what is deleted only when it uses the space again: nothing reads
    it any more, but the files and the write-ahead log hold it until then, and so do back-ups.
    """
    connection = transaction.connection
    # Replays take conversations while they have their own row, so that comes first here too.
    await connection.execute(FORGET_IN_REPLAYS, transaction.now, audit.shorten(conversation.sender), *conversation)
    await conversations.take(transaction, conversation)
    hashed = await _hash(transaction, conversation)
    is_repeat = await connection.fetchval(IS_REMEMBERED, hashed)
    await connection.execute(REMEMBER, hashed, transaction.now)
    deliveries = await lanes.drop(transaction, await lanes.lock_conversation(transaction, conversation))
    await connection.execute(END_ASSIGNMENT, *conversation)
    rows: list[Any] = await connection.fetch(OLDEST, *conversation, limit + 1)
    removed = await remove_messages(transaction, [sequence for sequence, _ in rows[:limit]])
    counts = ErasedCounts(
        messages=len(rows[:limit]),
        deliveries=deliveries,
        dead_letters=removed["dead_letter"],
        held=sum(is_held for _, is_held in rows[:limit]),
        clashes=removed["clash"],
        is_complete=len(rows) <= limit,
    )
    if counts.messages or deliveries or not is_repeat:
        await _audit(transaction, actor, conversation, counts)
    return counts


async def _audit(transaction: Transaction, actor: str, conversation: Conversation, counts: ErasedCounts) -> None:
    channel, sender = conversation.channel_config_id, audit.shorten(conversation.sender)
    await audit.write(transaction, actor, "erase", channel=channel, sender=sender, **counts._asdict())


async def find_erased(transaction: Transaction, conversations_: Collection[Conversation]) -> dict[Conversation, int]:
    """Return when senders were erased: what had been received by then is not stored any more."""
    by_hash = {await _hash(transaction, conversation): conversation for conversation in conversations_}
    rows: list[Any] = await transaction.connection.fetch(FIND, list(by_hash))
    return {by_hash[hash_]: erased_at for hash_, erased_at in rows}


async def note_dropped(transaction: Transaction, channel_config_id: str, count: int, of: str = "messages") -> None:
    """Audit what `find_erased` kept out."""
    await audit.write(transaction, GATEWAY, "erased-drop", channel=channel_config_id, **{of: count})


async def _hash(transaction: Transaction, conversation: Conversation) -> bytes:
    key: bytes | None = transaction.remembered.get("erasure_key")
    if key is None:
        key = bytes(await transaction.connection.fetchval("SELECT key FROM erasure_key"))
        transaction.remembered["erasure_key"] = key
    return blake2b("\0".join(conversation).encode(), key=key, digest_size=32).digest()
