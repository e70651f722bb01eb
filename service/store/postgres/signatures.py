"""The SQL of what checks of signatures found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.models import SignatureCount, SignatureResult
from service.store.postgres.session import Transaction

ADD = """
INSERT INTO signature_count AS s (channel_config_id, result, count, last_at)
SELECT n.channel_config_id, n.result, sum(n.count), max(n.last_at)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS n (channel_config_id, result, count, last_at)
JOIN channel c ON c.channel_config_id = n.channel_config_id AND c.signature_check <> 'OFF'
GROUP BY n.channel_config_id, n.result ORDER BY n.channel_config_id, n.result
ON CONFLICT (channel_config_id, result) DO UPDATE
  SET count = s.count + excluded.count, last_at = greatest(s.last_at, excluded.last_at)
"""


async def add_counts(transaction: Transaction, counts: Sequence[SignatureCount]) -> None:
    """See `DirectoryStore.add_signature_counts`."""
    await transaction.connection.execute(
        ADD,
        [each.channel_config_id for each in counts],
        [str(each.result) for each in counts],
        [each.count for each in counts],
        [each.last_at for each in counts],
    )


async def forget_counts(transaction: Transaction, channel_config_id: str) -> None:
    """Begin to count anew."""
    await transaction.connection.execute("DELETE FROM signature_count WHERE channel_config_id = $1", channel_config_id)


async def find_counts(transaction: Transaction, channel_config_id: str) -> list[SignatureCount]:
    """See `DirectoryStore.find_signature_counts`."""
    rows: list[Any] = await transaction.connection.fetch(
        "SELECT result, count, last_at FROM signature_count WHERE channel_config_id = $1", channel_config_id
    )
    return [SignatureCount(channel_config_id, SignatureResult(result), count, at) for result, count, at in rows]
