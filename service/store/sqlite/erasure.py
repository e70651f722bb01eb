"""The SQL of erasure: removes all that is stored of a sender, and keeps it from coming back."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import Any

import apsw

from service.models import Conversation, ErasedCounts
from service.store.contract import GATEWAY
from service.store.sqlite import assignments, audit
from service.store.sqlite.removal import remove_message
from service.store.sqlite.writer import Transaction

LONGEST_WAIT_FOR_READERS = 200
"""Milliseconds for which commits wait, so that the log can be emptied."""

IS_REMEMBERED = "SELECT EXISTS (SELECT 1 FROM erased_sender WHERE hash = ?)"

REMEMBER = """
INSERT INTO erased_sender VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET erased_at = excluded.erased_at
"""

LANES = "SELECT id FROM lane WHERE channel_config_id = ? AND sender = ?"

# A replay of this conversation has nothing left to bring; its record tells no whole number.
FORGET_IN_REPLAYS = """
UPDATE replay SET ended_at = coalesce(ended_at, ?1), selection = json_set(selection, '$.sender', ?2)
WHERE selection ->> 'channel_config_id' = ?3 AND selection ->> 'sender' = ?4
"""

OLDEST = """
SELECT sequence, hold_reason IS NOT NULL FROM message
WHERE channel_config_id = ? AND sender = ? ORDER BY sequence LIMIT ?
"""


def erase_sender(transaction: Transaction, conversation: Conversation, limit: int, actor: str) -> ErasedCounts:
    """See `RetentionStore.erase_sender`.

    All lanes go at once, which costs little, so that none is left with a delivery of a message that is gone.
    """
    connection = transaction.connection
    _empty_log_after_commit(connection)
    hashed = _hash(transaction, conversation)
    is_repeat = connection.execute(IS_REMEMBERED, (hashed,)).get
    connection.execute(REMEMBER, (hashed, transaction.now))
    transaction.remembered.is_anybody_erased = True
    deliveries = _remove_lanes(connection, conversation)
    assignments.end(transaction, conversation)
    connection.execute(FORGET_IN_REPLAYS, (transaction.now, audit.shorten(conversation.sender), *conversation))
    rows: list[Any] = connection.execute(OLDEST, (*conversation, limit + 1)).fetchall()
    removed: Counter[str] = Counter()
    for sequence, _ in rows[:limit]:
        removed.update(remove_message(connection, sequence))
    counts = ErasedCounts(
        messages=len(rows[:limit]),
        deliveries=deliveries,
        dead_letters=removed["dead_letter"],
        held=sum(is_held for _, is_held in rows[:limit]),
        clashes=removed["clash"],
        is_complete=len(rows) <= limit,
    )
    if counts.messages or deliveries or not is_repeat:
        _audit(transaction, actor, conversation, counts)
    return counts


def _audit(transaction: Transaction, actor: str, conversation: Conversation, counts: ErasedCounts) -> None:
    channel, sender = conversation.channel_config_id, audit.shorten(conversation.sender)
    audit.write(transaction, actor, "erase", channel=channel, sender=sender, **counts._asdict())


def is_anybody_erased(transaction: Transaction) -> bool:
    """Whether any sender was ever erased."""
    remembered = transaction.remembered
    if remembered.is_anybody_erased is None:
        found = transaction.connection.execute("SELECT EXISTS (SELECT 1 FROM erased_sender)").get
        remembered.is_anybody_erased = bool(found)
    return remembered.is_anybody_erased


def is_erased(transaction: Transaction, conversation: Conversation, received_at: int) -> bool:
    """Whether the sender was erased when a message had been received. Costs nothing where nobody ever was."""
    if not is_anybody_erased(transaction):
        return False
    erased_at = transaction.connection.execute(
        "SELECT erased_at FROM erased_sender WHERE hash = ?", (_hash(transaction, conversation),)
    ).get
    return erased_at is not None and received_at <= erased_at


def note_dropped(transaction: Transaction, channel_config_id: str, count: int, of: str = "messages") -> None:
    """Audit what `is_erased` kept out."""
    audit.write(transaction, GATEWAY, "erased-drop", channel=channel_config_id, **{of: count})


def _hash(transaction: Transaction, conversation: Conversation) -> bytes:
    remembered = transaction.remembered
    if remembered.erasure_key is None:
        remembered.erasure_key = bytes(transaction.connection.execute("SELECT key FROM erasure_key").get)
    return blake2b("\0".join(conversation).encode(), key=remembered.erasure_key, digest_size=32).digest()


def _remove_lanes(connection: apsw.Connection, conversation: Conversation) -> int:
    removed = 0
    for (lane,) in connection.execute(LANES, conversation).fetchall():
        connection.execute("DELETE FROM delivery WHERE lane = ?", (lane,))
        removed += connection.changes()
        connection.execute("DELETE FROM lane WHERE id = ?", (lane,))
    return removed


def _empty_log_after_commit(connection: apsw.Connection) -> None:
    """Let the commit empty the write-ahead log, where what is deleted still is.

    Done in place of SQLite's own checkpoints. A reader in the middle of a look keeps the log: then the next commit
    tries again.
    """
    pages_between_checkpoints = connection.pragma("wal_autocheckpoint")
    if not pages_between_checkpoints:
        return  # it is to be emptied already

    def empty_log(connection: apsw.Connection, _database: str, _pages: int) -> int:
        connection.set_busy_timeout(LONGEST_WAIT_FOR_READERS)
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        connection.set_busy_timeout(0)
        if not busy:
            connection.wal_autocheckpoint(pages_between_checkpoints)
        return apsw.SQLITE_OK

    connection.set_wal_hook(empty_log)
