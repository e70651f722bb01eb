"""The SQL of what checks of signatures found."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from service.models import SignatureCount, SignatureResult
from service.store.sqlite.writer import Transaction

ADD = """
  INSERT INTO signature_count
    SELECT ?1, ?2, ?3, ?4 FROM channel WHERE channel_config_id = ?1 AND signature_check <> 'OFF'
  ON CONFLICT DO UPDATE SET count = count + excluded.count, last_at = max(last_at, excluded.last_at)
"""


def add_counts(transaction: Transaction, counts: Sequence[SignatureCount]) -> None:
    """See `DirectoryStore.add_signature_counts`."""
    transaction.connection.executemany(
        ADD, [(each.channel_config_id, str(each.result), each.count, each.last_at) for each in counts]
    )


def forget_counts(transaction: Transaction, channel_config_id: str) -> None:
    """Begin to count anew."""
    transaction.connection.execute("DELETE FROM signature_count WHERE channel_config_id = ?", (channel_config_id,))


def find_counts(connection: apsw.Connection, channel_config_id: str) -> list[SignatureCount]:
    """See `DirectoryStore.find_signature_counts`."""
    rows = connection.execute(
        "SELECT result, count, last_at FROM signature_count WHERE channel_config_id = ?", (channel_config_id,)
    )
    return [SignatureCount(channel_config_id, SignatureResult(result), count, at) for result, count, at in rows]
