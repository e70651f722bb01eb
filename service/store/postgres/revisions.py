"""The directory's revisions: each is the time of a change, so that one that was lost is not used again."""

from __future__ import annotations

from typing import Any

from service.models import DirectoryPosition
from service.store.postgres.session import Transaction

TAKE = """
WITH changed AS (
  UPDATE directory SET revision = greatest(revision + 1, $1) RETURNING revision
)
INSERT INTO directory_change SELECT revision FROM changed RETURNING revision
"""

# Older code notes no changes; its revisions are those before the first that was noted, or channels still have them.
HAS_HAD = """
SELECT $1 < (SELECT min(revision) FROM directory_change)
  OR EXISTS (SELECT FROM directory_change WHERE revision = $1) OR EXISTS (SELECT FROM channel WHERE revision = $1)
"""


async def take(transaction: Transaction) -> int:
    """Take the directory until the commit, before any look at it; return the revision of the change."""
    transaction.directory_changed = True
    revision: int = await transaction.connection.fetchval(TAKE, transaction.now)
    return revision


async def find_start(transaction: Transaction, after: DirectoryPosition | None) -> tuple[DirectoryPosition, int | None]:
    """Return where the directory is, and the revision to go on from: None when it has never been at `after`."""
    row: Any = await transaction.connection.fetchrow("SELECT directory_id, revision FROM directory")
    here = DirectoryPosition(*row)
    if after is None or after.directory_id != here.directory_id:
        return here, None
    has_had = after == here or await transaction.connection.fetchval(HAS_HAD, after.revision)
    return here, after.revision if has_had else None
