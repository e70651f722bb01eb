"""Where in the sequence the messages of some time are.

Between conversations sequences don't grow in the order of commit: transactions that are open together have some each.
So does committed_at fall now and then, by less than a few seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from service.store.postgres.session import Transaction, microseconds

MOST_DISORDER_SECONDS = 10
"""A transaction ends within two seconds; the rest is for the clocks of two servers of which one takes over."""

END = "SELECT coalesce(max(sequence), 0) + 1 FROM message"

# By bisection, so that no index of the times is needed. Messages below the answer were committed before the given time,
# and a moment; those from the answer on at the given time or later, less a moment.
BISECT = f"""
WITH RECURSIVE step (low, high) AS (
  SELECT 1::bigint, ({END})
  UNION ALL
  SELECT CASE WHEN probe.committed_at < $1 THEN probe.sequence + 1 ELSE low END,
         CASE WHEN probe.committed_at < $1 THEN high ELSE (low + high) / 2 END
  FROM step CROSS JOIN LATERAL (
    SELECT sequence, committed_at FROM message WHERE sequence >= (low + high) / 2 ORDER BY sequence LIMIT 1
  ) AS probe
  WHERE low < high
)
SELECT low FROM step WHERE low >= high
"""


class Span(NamedTuple):
    """Sequences from `first` on, below `before`: all messages of some time have such, and some others may have, too."""

    first: int
    before: int


async def find_span(transaction: Transaction, start_at: int | None, end_at: int | None) -> Span:
    """Return where the messages are that were committed at `start_at` or later, and before `end_at`."""
    disorder = microseconds(MOST_DISORDER_SECONDS)
    first = 1 if start_at is None else await transaction.connection.fetchval(BISECT, start_at - disorder)
    if end_at is None:
        return Span(first, await transaction.connection.fetchval(END))
    return Span(first, await transaction.connection.fetchval(BISECT, end_at + disorder))
