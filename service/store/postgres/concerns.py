"""What is wrong with how the database is set up, although it works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.store.postgres.session import Transaction

LONGEST_TRANSACTION_SECONDS = 60

# What a role may not see of others is NULL.
LOOK = f"""
SELECT current_setting('fsync') = 'off' AS is_unsafe,
       current_setting('synchronous_commit') = 'off' AS is_unsynced,
       current_setting('synchronous_commit') = 'local'
         OR NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS is_alone,
       EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IS NOT NULL) AS has_standby,
       EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IS NULL) AS has_hidden_standby,
       current_user AS role,
       (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
          AND clock_timestamp() - xact_start > interval '{LONGEST_TRANSACTION_SECONDS} seconds') AS oldest_seconds
"""


async def find_concerns(transaction: Transaction) -> list[str]:
    """Return what the operator should mend, in a sentence each that says how."""
    row: Any = await transaction.connection.fetchrow(LOOK)
    return list(_name(row))


def _name(row: Any) -> Iterator[str]:
    if row["is_unsafe"]:
        yield "PostgreSQL's fsync is off: a crash can destroy everything; set fsync = on"
    if row["is_unsynced"]:
        yield "PostgreSQL's synchronous_commit is off: a crash loses the last messages; set synchronous_commit = on"
    elif row["has_standby"] and row["is_alone"]:
        yield "no standby of PostgreSQL is synchronous: a failover loses messages; set synchronous_standby_names"
    elif row["has_hidden_standby"]:
        yield (
            "the service may not see whether a standby of PostgreSQL is synchronous, without which a failover loses "
            f"messages; let it: GRANT pg_monitor TO {row['role']}"
        )
    if row["oldest_seconds"] is not None:
        yield (
            f"a transaction in the database has been open for {row['oldest_seconds']} s and keeps it from being "
            "vacuumed; find it in pg_stat_activity"
        )
