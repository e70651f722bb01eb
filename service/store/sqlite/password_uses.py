"""The SQL of when passwords were last used."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from service.models import Credentials, PasswordUse
from service.models.channels import id_of_hash
from service.store.sqlite.writer import Transaction

NOTE = """
INSERT INTO password_use VALUES (?, ?, ?)
ON CONFLICT (channel_config_id, password_id) DO UPDATE SET used_at = max(used_at, excluded.used_at)
"""

HASHES = "SELECT password_hash, previous_password_hash FROM channel WHERE channel_config_id = ?"

# Late reports of what is replaced may have come first.
RENAME = "UPDATE OR REPLACE password_use SET password_id = ?3 WHERE channel_config_id = ?1 AND password_id = ?2"

FORGET = "DELETE FROM password_use WHERE channel_config_id = ? AND password_id NOT IN (?, ?)"


def note_uses(transaction: Transaction, uses: Sequence[PasswordUse]) -> None:
    """See `DirectoryStore.note_password_uses`."""
    for channel_config_id, password_id, used_at in uses:
        hashes = transaction.connection.execute(HASHES, (channel_config_id,)).fetchone() or ()
        if password_id in {id_of_hash(phc) for phc in hashes if phc}:
            transaction.connection.execute(NOTE, (channel_config_id, password_id, min(used_at, transaction.now)))


def follow_change(transaction: Transaction, channel_config_id: str, before: Credentials, after: Credentials) -> None:
    """Keep what is known of the passwords that stay, and forget the rest."""
    if before.revision == after.revision and before.password_hash != after.password_hash:
        transaction.connection.execute(RENAME, (channel_config_id, before.password_id, after.password_id))
    transaction.connection.execute(FORGET, (channel_config_id, after.password_id, after.previous_password_id or ""))


def find_uses(connection: apsw.Connection, channel_config_id: str) -> list[PasswordUse]:
    """See `DirectoryStore.find_password_uses`."""
    rows = connection.execute(
        "SELECT channel_config_id, password_id, used_at FROM password_use WHERE channel_config_id = ?",
        (channel_config_id,),
    )
    return [PasswordUse(*row) for row in rows]
