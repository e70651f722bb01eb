"""The SQL of when passwords were last used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.models import Credentials, PasswordUse
from service.models.channels import id_of_hash
from service.store.postgres.session import Transaction

# Who changes the passwords meanwhile waits, and forgets what was noted of the old ones.
HASHES = """
SELECT channel_config_id, password_hash, previous_password_hash FROM channel
WHERE channel_config_id = ANY ($1::text[]) ORDER BY channel_config_id FOR SHARE
"""

NOTE = """
INSERT INTO password_use AS u (channel_config_id, password_id, used_at)
SELECT channel_config_id, password_id, least(max(used_at), $4)
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (channel_config_id, password_id, used_at)
GROUP BY channel_config_id, password_id ORDER BY channel_config_id, password_id
ON CONFLICT (channel_config_id, password_id) DO UPDATE SET used_at = greatest(u.used_at, excluded.used_at)
"""

# Late reports of what is replaced may have come first.
MAKE_ROOM = """
DELETE FROM password_use new USING password_use old
WHERE new.channel_config_id = $1 AND new.password_id = $3 AND old.channel_config_id = $1 AND old.password_id = $2
"""

RENAME = "UPDATE password_use SET password_id = $3 WHERE channel_config_id = $1 AND password_id = $2"

FORGET = "DELETE FROM password_use WHERE channel_config_id = $1 AND password_id <> ALL ($2::text[])"


async def note_uses(transaction: Transaction, uses: Sequence[PasswordUse]) -> None:
    """See `DirectoryStore.note_password_uses`."""
    rows: list[Any] = await transaction.connection.fetch(HASHES, [use.channel_config_id for use in uses])
    known = {(channel, id_of_hash(phc)) for channel, *hashes in rows for phc in hashes if phc}
    wanted = [use for use in uses if (use.channel_config_id, use.password_id) in known]
    await transaction.connection.execute(
        NOTE,
        [use.channel_config_id for use in wanted],
        [use.password_id for use in wanted],
        [use.used_at for use in wanted],
        transaction.now,
    )


async def follow_change(
    transaction: Transaction, channel_config_id: str, before: Credentials, after: Credentials
) -> None:
    """Keep what is known of the passwords that stay, and forget the rest. The channel's row is changed already."""
    if before.revision == after.revision and before.password_hash != after.password_hash:
        for statement in (MAKE_ROOM, RENAME):
            await transaction.connection.execute(statement, channel_config_id, before.password_id, after.password_id)
    staying = [after.password_id, *([after.previous_password_id] if after.previous_password_id else [])]
    await transaction.connection.execute(FORGET, channel_config_id, staying)


async def find_uses(transaction: Transaction, channel_config_id: str) -> list[PasswordUse]:
    """See `DirectoryStore.find_password_uses`."""
    rows: list[Any] = await transaction.connection.fetch(
        "SELECT channel_config_id, password_id, used_at FROM password_use WHERE channel_config_id = $1",
        channel_config_id,
    )
    return [PasswordUse(*row) for row in rows]
