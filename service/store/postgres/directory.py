"""The channel directory's SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from service.errors import AlreadyExists, Conflict, NotFound, StillInUse
from service.models import (
    AuditEntry,
    Channel,
    ChannelChanges,
    ChannelState,
    Credentials,
    DirectoryPosition,
    Route,
    RouteRevision,
    SignatureCheck,
)
from service.store.audit_details import dump_details
from service.store.contract import GATEWAY
from service.store.postgres import audit, password_uses, revisions, signatures
from service.store.postgres.session import Transaction
from service.store.routes_json import dump_routes, load_routes
from service.store.secrets_json import dump_secrets, load_secrets

NAMES = (
    *("channel_config_id", "provider", "number", "webhook_user", "password_hash", "previous_password_hash"),
    *("previous_password_expires_at", "credential_revision", "state", "destination", "infer_message_type"),
    *("route_revision", "revision", "created_at", "updated_at", "affinity_seconds"),
    *("signature_check", "signature_secrets"),
)

SELECT = f"""
SELECT {", ".join(f"c.{name}" for name in NAMES)}, coalesce(r.routes, '[]')
FROM channel c LEFT JOIN route_set r
  ON r.channel_config_id = c.channel_config_id AND r.route_revision = c.route_revision
"""

INSERT = f"""
INSERT INTO channel ({", ".join(NAMES)}) VALUES ({", ".join(f"${number + 1}" for number in range(len(NAMES)))})
"""

# All of it at once, since many may be made at once: who changes the directory keeps all others from it.
GIVEN = [name for name in NAMES if name != "revision"]
CREATE = f"""
WITH changed AS (
  UPDATE directory SET revision = greatest(revision + 1, $3) RETURNING revision
), made AS (
  INSERT INTO channel (revision, {", ".join(GIVEN)})
  SELECT revision, {", ".join(f"${number}" for number in range(4, len(GIVEN) + 4))} FROM changed
  ON CONFLICT (channel_config_id) DO NOTHING
  RETURNING revision, created_at, destination
), noted AS (
  INSERT INTO directory_change SELECT revision FROM made
), named AS (
  INSERT INTO destination (name) SELECT destination FROM made WHERE destination IS NOT NULL
  ON CONFLICT (name) DO NOTHING
), audited AS (
  INSERT INTO audit (at, actor, action, details) SELECT created_at, $1, 'channel-create', $2 FROM made
)
SELECT revision FROM made
"""

OVERWRITE = f"""
{INSERT} ON CONFLICT (channel_config_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])}
"""

INSERT_ROUTES = "INSERT INTO route_set (channel_config_id, route_revision, routes, created_at) VALUES ($1, $2, $3, $4)"

NAME_DESTINATIONS = """
INSERT INTO destination (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING
"""

LIST_ROUTE_REVISIONS = """
SELECT route_revision, created_at, routes FROM route_set
WHERE channel_config_id = $1 AND route_revision < $2 ORDER BY route_revision DESC LIMIT $3
"""

COUNT_PENDING = """
SELECT
  (SELECT count(*) FROM message WHERE channel_config_id = $1 AND hold_reason IS NOT NULL),
  (SELECT coalesce(sum(tail - head + 1), 0)::bigint FROM lane WHERE channel_config_id = $1 AND due_at IS NOT NULL),
  (SELECT count(*) FROM dead_letter WHERE channel_config_id = $1)
"""


async def touch(transaction: Transaction) -> None:
    """Write something that matters to nobody: see `Store.check_alive`."""
    await transaction.connection.execute("UPDATE heartbeat SET written_at = $1", transaction.now)


async def create_channel(transaction: Transaction, channel: Channel, actor: str) -> Channel:
    """See `DirectoryStore.create_channel`."""
    transaction.directory_changed = True
    stored = replace(channel, created_at=transaction.now, updated_at=transaction.now)
    given = [value for name, value in zip(NAMES, _to_row(stored), strict=True) if name in GIVEN]
    details = dump_details({"channel": channel.channel_config_id})
    revision = await transaction.connection.fetchval(CREATE, actor, details, transaction.now, *given)
    if revision is None:
        raise AlreadyExists(f'channel id "{channel.channel_config_id}" is or was in use; take another one')
    return replace(stored, revision=revision)


async def replace_channel(transaction: Transaction, channel: Channel, entry: AuditEntry | None) -> Channel:
    """See `DirectoryStore.replace_channel`."""
    revision = await revisions.take(transaction)
    current = await load_channel(transaction, channel.channel_config_id)
    _check_revision(current, channel.revision)
    stored = replace(
        channel,
        routes=current.routes,
        route_revision=current.route_revision,
        revision=revision,
        created_at=current.created_at,
        updated_at=transaction.now,
    )
    await transaction.connection.execute(OVERWRITE, *_to_row(stored))
    await _name_destinations(transaction, [stored.destination])
    if _signing_of(stored) != _signing_of(current):
        await signatures.forget_counts(transaction, stored.channel_config_id)
    await password_uses.follow_change(transaction, stored.channel_config_id, current.credentials, stored.credentials)
    own = AuditEntry(GATEWAY, "channel-update", {"channel": stored.channel_config_id})
    await audit.write_entry(transaction, entry or own)
    return stored


async def replace_routes(
    transaction: Transaction, channel_config_id: str, routes: Sequence[Route], expected: int | None, actor: str
) -> int:
    """See `DirectoryStore.replace_routes`."""
    revision = await revisions.take(transaction)
    current = await load_channel(transaction, channel_config_id)
    if expected not in {None, current.route_revision}:
        raise Conflict(
            f"the routes are at revision {current.route_revision}, not {expected}; read them again and repeat"
        )
    stored = replace(current, route_revision=current.route_revision + 1, revision=revision, updated_at=transaction.now)
    await transaction.connection.execute(
        INSERT_ROUTES, channel_config_id, stored.route_revision, dump_routes(routes), transaction.now
    )
    await transaction.connection.execute(OVERWRITE, *_to_row(stored))
    await _name_destinations(transaction, [name for route in routes for name in route.destinations])
    facts = {"revision": stored.route_revision, "routes": len(routes)}
    await audit.write(transaction, actor, "routes-set", channel=channel_config_id, **facts)
    return stored.route_revision


async def delete_channel(transaction: Transaction, channel_config_id: str, expected: int | None, actor: str) -> None:
    """See `DirectoryStore.delete_channel`."""
    revision = await revisions.take(transaction)
    current = await load_channel(transaction, channel_config_id)
    _check_revision(current, expected)
    pending: Any = await transaction.connection.fetchrow(COUNT_PENDING, channel_config_id)
    held, waiting, dead = pending
    if held or waiting or dead:
        raise StillInUse(
            f'channel "{channel_config_id}" has {waiting} messages that are not acknowledged, {held} that are held and '
            f"{dead} dead letters; let them be settled first, and pause it meanwhile with: mo channel update --pause"
        )
    deleted = replace(
        current,
        state=ChannelState.DELETED,
        credentials=Credentials("", "", revision=current.credentials.revision + 1),
        signature_secrets=(),
        revision=revision,
        updated_at=transaction.now,
    )
    await transaction.connection.execute(OVERWRITE, *_to_row(deleted))
    await signatures.forget_counts(transaction, channel_config_id)
    await password_uses.follow_change(transaction, channel_config_id, current.credentials, deleted.credentials)
    await audit.write(transaction, actor, "channel-delete", channel=channel_config_id)


async def find_channels(transaction: Transaction, channel_config_ids: Collection[str]) -> dict[str, Channel]:
    """See `DirectoryStore.find_channels`."""
    rows: list[Any] = await transaction.connection.fetch(
        f"{SELECT} WHERE c.channel_config_id = ANY ($1::text[])", list(channel_config_ids)
    )
    return {channel.channel_config_id: channel for channel in map(_from_row, rows)}


async def load_channel(transaction: Transaction, channel_config_id: str) -> Channel:
    """Return a channel; raises `NotFound`, also for a deleted one."""
    channel = (await find_channels(transaction, [channel_config_id])).get(channel_config_id)
    if channel is None or channel.state is ChannelState.DELETED:
        raise NotFound(f'no channel "{channel_config_id}"; see: mo channel list')
    return channel


async def list_channels(transaction: Transaction, after: str, limit: int) -> list[Channel]:
    """See `DirectoryStore.list_channels`."""
    rows: list[Any] = await transaction.connection.fetch(
        f"{SELECT} WHERE c.channel_config_id > $1 AND c.state <> 'DELETED' ORDER BY c.channel_config_id LIMIT $2",
        after,
        limit,
    )
    return [_from_row(row) for row in rows]


async def find_changes(transaction: Transaction, after: DirectoryPosition | None, limit: int) -> ChannelChanges:
    """See `DirectoryStore.find_changes`."""
    here, start = await revisions.find_start(transaction, after)
    rows: list[Any] = await transaction.connection.fetch(
        f"{SELECT} WHERE c.revision > $1 ORDER BY c.revision LIMIT $2", start or 0, limit
    )
    channels = [_from_row(row) for row in rows]
    if len(channels) < limit:
        return ChannelChanges(channels, here, caught_up=True, is_reset=start is None)
    here = here._replace(revision=channels[-1].revision)
    return ChannelChanges(channels, here, caught_up=False, is_reset=start is None)


async def list_route_revisions(
    transaction: Transaction, channel_config_id: str, before: int | None, limit: int
) -> list[RouteRevision]:
    """See `DirectoryStore.list_route_revisions`."""
    rows: list[Any] = await transaction.connection.fetch(
        LIST_ROUTE_REVISIONS, channel_config_id, before or 2**63 - 1, limit
    )
    return [RouteRevision(revision, created_at, load_routes(routes)) for revision, created_at, routes in rows]


def _signing_of(channel: Channel) -> tuple[SignatureCheck, frozenset[str]]:
    """Return what the counts of signatures are about. A secret that is sealed anew is the same."""
    return channel.signature_check, frozenset(secret.secret_id for secret in channel.signature_secrets)


def _check_revision(current: Channel, expected: int | None) -> None:
    if expected not in {None, current.revision}:
        raise Conflict(f'channel "{current.channel_config_id}" has changed meanwhile; read it again and repeat')


async def _name_destinations(transaction: Transaction, names: Collection[str | None]) -> None:
    await transaction.connection.execute(NAME_DESTINATIONS, sorted({name for name in names if name}))


def _to_row(channel: Channel) -> tuple[Any, ...]:
    credentials = channel.credentials
    return (
        channel.channel_config_id,
        channel.provider,
        channel.number,
        credentials.webhook_user,
        credentials.password_hash,
        credentials.previous_password_hash,
        credentials.previous_password_expires_at,
        credentials.revision,
        str(channel.state),
        channel.destination,
        channel.infer_message_type,
        channel.route_revision,
        channel.revision,
        channel.created_at,
        channel.updated_at,
        channel.affinity_seconds,
        str(channel.signature_check),
        dump_secrets(channel.signature_secrets),
    )


def _from_row(row: Any) -> Channel:
    return Channel(
        channel_config_id=row[0],
        provider=row[1],
        number=row[2],
        credentials=Credentials(row[3], row[4], row[5], row[6], row[7]),
        state=ChannelState(row[8]),
        destination=row[9],
        infer_message_type=row[10],
        route_revision=row[11],
        revision=row[12],
        created_at=row[13],
        updated_at=row[14],
        affinity_seconds=row[15],
        signature_check=SignatureCheck(row[16]),
        signature_secrets=load_secrets(row[17]),
        routes=load_routes(row[18]),
    )
