"""The directory's revisions: each is the time of a change, so that one that was lost is not used again."""

from __future__ import annotations

import apsw

from service.models import DirectoryPosition
from service.store.sqlite.writer import Transaction

TAKE = "UPDATE directory SET revision = max(revision + 1, ?) RETURNING revision"

# Older code notes no changes; its revisions are those before the first that was noted, or channels still have them.
HAS_HAD = """
SELECT ?1 < (SELECT min(revision) FROM directory_change)
  OR EXISTS (SELECT 1 FROM directory_change WHERE revision = ?1) OR EXISTS (SELECT 1 FROM channel WHERE revision = ?1)
"""


def take(transaction: Transaction) -> int:
    """Return the revision of a change that is made now."""
    transaction.directory_changed = True
    revision: int = transaction.connection.execute(TAKE, (transaction.now,)).get
    transaction.connection.execute("INSERT INTO directory_change VALUES (?)", (revision,))
    return revision


def find_start(connection: apsw.Connection, after: DirectoryPosition | None) -> tuple[DirectoryPosition, int | None]:
    """Return where the directory is, and the revision to go on from: None when it has never been at `after`."""
    here = DirectoryPosition(*connection.execute("SELECT directory_id, revision FROM directory").get)
    if after is None or after.directory_id != here.directory_id:
        return here, None
    has_had = after == here or connection.execute(HAS_HAD, (after.revision,)).get
    return here, after.revision if has_had else None
