"""Removes a message with all that belongs to it."""

from __future__ import annotations

from collections import Counter

import apsw

BELONGING = ("clash", "attempt", "settled", "dead_letter")


def remove_message(connection: apsw.Connection, sequence: int) -> Counter[str]:
    """Delete a message that no lane names; return how many rows went with it, by table."""
    removed: Counter[str] = Counter()
    for table in BELONGING:
        connection.execute(f"DELETE FROM {table} WHERE message = ?", (sequence,))
        removed[table] = connection.changes()
    connection.execute("DELETE FROM message WHERE sequence = ?", (sequence,))
    return removed
