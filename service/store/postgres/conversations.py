"""Locks of an intake: on its conversations, and on where its sequences begin. Until the end of the transaction.

An operation that assigns or erases a conversation must see every message that is stored without knowing of it, and
after it none may be stored so. Therefore an intake shares the conversations that it brings, and such an operation takes
its own for itself, both before their first look. Conversations share a fixed number of advisory locks, taken in order:
they can't exhaust the server's lock table, and can't deadlock.

The sequences of transactions that are open together don't become visible in their order. Therefore each notes, as an
advisory lock too, a sequence that is smaller than all of its own: whoever follows the sequence stays behind the
smallest of them, and keeps nobody from working.
"""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from service.models import Conversation
from service.store.postgres.session import NOW, UNTOLD, Transaction

LOCKS = 256
CONVERSATION_LOCK = 0x4149_4D01
BEGINNING_LOCK = 0x4149_4D02
"""The first halves of their keys."""

# A lock's key has room for the last 31 bits of a sequence.
NOTED_BITS = 31

LAST_SEQUENCE = "SELECT last_value - (NOT is_called)::int FROM message_sequence"

SHARE = f"""
SELECT {NOW}, pg_advisory_xact_lock_shared($1, (({LAST_SEQUENCE}) & {2**NOTED_BITS - 1})::int), (
  SELECT count(CASE WHEN is_alone THEN pg_advisory_xact_lock($2, number)
                    ELSE pg_advisory_xact_lock_shared($2, number) END)
  FROM unnest($3::int[], $4::boolean[]) AS l (number, is_alone)
)
"""

TAKE = "SELECT count(pg_advisory_xact_lock($1, number)) FROM unnest($2::int[]) AS number"

# The numbers of both halves are 32 bits without a sign there.
NOTED = """
SELECT DISTINCT objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def share(
    transaction: Transaction, conversations: Collection[Conversation], alone: Collection[Conversation] = ()
) -> None:
    """Keep these from being taken, together with others that share them, and note where the sequences begin.

    Those in `alone` nobody else shares. An intake that was outrun has all to itself, so that it can't be again.
    A transaction that doesn't know the time is told.
    """
    numbers = _numbers(conversations)
    alone_numbers = set(_numbers(alone if transaction.attempt == 1 else conversations))
    is_alone = [number in alone_numbers for number in numbers]
    now = await transaction.connection.fetchval(SHARE, BEGINNING_LOCK, CONVERSATION_LOCK, numbers, is_alone)
    if transaction.now == UNTOLD:
        transaction.now = now


async def take(transaction: Transaction, *conversations: Conversation) -> None:
    """Keep anybody else from sharing or taking these. Once in a transaction."""
    await transaction.connection.execute(TAKE, CONVERSATION_LOCK, _numbers(conversations))


async def settled_until(transaction: Transaction) -> int:
    """Return a sequence at or below which nothing more is going to be stored.

    A look that began earlier may not see all of it yet: so it isn't for a transaction with one moment for all of its
    looks, but for the one after it, or for the next look.
    """
    last = await load_last_sequence(transaction)
    # The second look: who has taken a sequence up to `last` has noted its beginning before.
    noted = await transaction.connection.fetch(NOTED, BEGINNING_LOCK)
    return min([last, *(_restore(number, near=last) for (number,) in noted)])


async def load_last_sequence(transaction: Transaction) -> int:
    """Return the greatest sequence that any transaction has taken, open ones too."""
    last: int = await transaction.connection.fetchval(LAST_SEQUENCE)
    return last


def _restore(number: int, near: int) -> int:
    """Return the sequence that ends in these bits, and is nearest to another."""
    span = 1 << NOTED_BITS
    ahead = (number - near) % span
    return near + ahead if ahead < span // 2 else near + ahead - span


def _numbers(conversations: Collection[Conversation]) -> list[int]:
    """Return the numbers of their locks, in the order in which everybody takes them."""
    return sorted({crc32("\0".join(conversation).encode()) % LOCKS for conversation in conversations})
