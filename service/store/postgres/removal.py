"""Removes messages with all that belongs to them; and keeps messages from being removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from service.store.postgres.session import Transaction

BELONGING = ("clash", "attempt", "settled", "dead_letter")

KEEP = "SELECT sequence FROM message WHERE sequence = ANY ($1::bigint[]) ORDER BY sequence FOR KEY SHARE"


async def remove_messages(transaction: Transaction, sequences: Sequence[int]) -> Counter[str]:
    """Delete messages that no lane names; return how many rows went with them, by table."""
    removed: Counter[str] = Counter()
    for table in (*BELONGING, "message"):
        column = "sequence" if table == "message" else "message"
        done = await transaction.connection.execute(
            f"DELETE FROM {table} WHERE {column} = ANY ($1::bigint[])", sequences
        )
        removed[table] = int(done.removeprefix("DELETE "))
    return removed


async def keep_messages(transaction: Transaction, sequences: Collection[int]) -> set[int]:
    """Keep stored messages from being removed until the end of the transaction; return those that are there.

    For those who queue them again: retention looks at what is queued, and can't see what is about to be.
    """
    return {row[0] for row in await transaction.connection.fetch(KEEP, list(sequences))}
