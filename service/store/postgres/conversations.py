"""Locks on conversations, which keep what changes where a conversation goes apart from what comes in.

An operation that assigns or erases a conversation must see every message that is stored without knowing of it, and none
may be stored after it without knowing. So an intake shares the conversations that it brings, and such an operation takes
its own for itself; both before their first look. They are advisory locks until the end of the transaction. Conversations
share a fixed number of locks, in the order of which they are taken: so they can't exhaust the server's lock table,
and can't deadlock.
"""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from service.models import Conversation
from service.store.postgres.session import Transaction

LOCKS = 256
LOCK_CLASS = 0x4149_4D4F
"""The first half of their keys: "AIMO"."""

SHARE = "SELECT count(pg_advisory_xact_lock_shared($1, number)) FROM unnest($2::int[]) AS number"

TAKE = "SELECT pg_advisory_xact_lock($1, $2)"


async def share(transaction: Transaction, conversations: Collection[Conversation]) -> None:
    """Keep these from being taken until the end of the transaction, together with others that share them."""
    numbers = sorted({_number(conversation) for conversation in conversations})
    await transaction.connection.execute(SHARE, LOCK_CLASS, numbers)


async def take(transaction: Transaction, conversation: Conversation) -> None:
    """Keep anybody else from sharing or taking this one until the end of the transaction. One a transaction."""
    await transaction.connection.execute(TAKE, LOCK_CLASS, _number(conversation))


def _number(conversation: Conversation) -> int:
    return crc32("\0".join(conversation).encode()) % LOCKS
