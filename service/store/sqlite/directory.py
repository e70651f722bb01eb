"""The channel directory's SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import apsw

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
from service.store.contract import GATEWAY
from service.store.routes_json import dump_routes, load_routes
from service.store.secrets_json import dump_secrets, load_secrets
from service.store.sqlite import audit, password_uses, revisions, signatures
from service.store.sqlite.schema import one_moment
from service.store.sqlite.writer import Transaction

COLUMNS = """
  c.channel_config_id, c.provider, c.number, c.webhook_user, c.password_hash, c.previous_password_hash,
  c.previous_password_expires_at, c.credential_revision, c.state, c.destination, c.infer_message_type,
  c.route_revision, c.revision, c.created_at, c.updated_at, c.affinity_seconds,
  c.signature_check, c.signature_secrets, coalesce(r.routes, '[]')
"""
FROM_CHANNEL = """
  FROM channel c LEFT JOIN route_set r
    ON r.channel_config_id = c.channel_config_id AND r.route_revision = c.route_revision
"""


def touch(transaction: Transaction) -> None:
    """Write something that matters to nobody: see `Store.check_alive`."""
    transaction.connection.execute("UPDATE heartbeat SET written_at = ?", (transaction.now,))


def create_channel(transaction: Transaction, channel: Channel, actor: str) -> Channel:
    """See `DirectoryStore.create_channel`."""
    connection = transaction.connection
    if connection.execute("SELECT 1 FROM channel WHERE channel_config_id = ?", (channel.channel_config_id,)).get:
        raise AlreadyExists(f'channel id "{channel.channel_config_id}" is or was in use; take another one')
    stored = replace(
        channel, revision=revisions.take(transaction), created_at=transaction.now, updated_at=transaction.now
    )
    connection.execute(f"INSERT INTO channel VALUES ({', '.join('?' * 18)})", _to_row(stored))
    _name_destinations(transaction, [stored.destination])
    audit.write(transaction, actor, "channel-create", channel=stored.channel_config_id)
    return stored


def replace_channel(transaction: Transaction, channel: Channel, entry: AuditEntry | None) -> Channel:
    """See `DirectoryStore.replace_channel`."""
    current = load_channel(transaction.connection, channel.channel_config_id)
    _check_revision(current, channel.revision)
    stored = replace(
        channel,
        routes=current.routes,
        route_revision=current.route_revision,
        revision=revisions.take(transaction),
        created_at=current.created_at,
        updated_at=transaction.now,
    )
    _overwrite(transaction, stored)
    _name_destinations(transaction, [stored.destination])
    if _signing_of(stored) != _signing_of(current):
        signatures.forget_counts(transaction, stored.channel_config_id)
    password_uses.follow_change(transaction, stored.channel_config_id, current.credentials, stored.credentials)
    own = AuditEntry(GATEWAY, "channel-update", {"channel": stored.channel_config_id})
    audit.write_entry(transaction, entry or own)
    return stored


def replace_routes(
    transaction: Transaction, channel_config_id: str, routes: Sequence[Route], expected: int | None, actor: str
) -> int:
    """See `DirectoryStore.replace_routes`."""
    current = load_channel(transaction.connection, channel_config_id)
    if expected not in {None, current.route_revision}:
        raise Conflict(
            f"the routes are at revision {current.route_revision}, not {expected}; read them again and repeat"
        )
    stored = replace(
        current,
        route_revision=current.route_revision + 1,
        revision=revisions.take(transaction),
        updated_at=transaction.now,
    )
    transaction.connection.execute(
        "INSERT INTO route_set VALUES (?, ?, ?, ?)",
        (channel_config_id, stored.route_revision, dump_routes(routes), transaction.now),
    )
    _overwrite(transaction, stored)
    _name_destinations(transaction, [name for route in routes for name in route.destinations])
    facts = {"revision": stored.route_revision, "routes": len(routes)}
    audit.write(transaction, actor, "routes-set", channel=channel_config_id, **facts)
    return stored.route_revision


def delete_channel(transaction: Transaction, channel_config_id: str, expected: int | None, actor: str) -> None:
    """See `DirectoryStore.delete_channel`."""
    current = load_channel(transaction.connection, channel_config_id)
    _check_revision(current, expected)
    held, waiting, dead = _count_pending(transaction.connection, channel_config_id)
    if held or waiting or dead:
        raise StillInUse(
            f'channel "{channel_config_id}" has {waiting} messages that are not acknowledged, {held} that are held and '
            f"{dead} dead letters; let them be settled first, and pause it meanwhile with: mo channel update --pause"
        )
    forgotten = Credentials("", "", revision=current.credentials.revision + 1)
    signatures.forget_counts(transaction, channel_config_id)
    password_uses.follow_change(transaction, channel_config_id, current.credentials, forgotten)
    audit.write(transaction, actor, "channel-delete", channel=channel_config_id)
    _overwrite(
        transaction,
        replace(
            current,
            state=ChannelState.DELETED,
            credentials=forgotten,
            signature_secrets=(),
            revision=revisions.take(transaction),
            updated_at=transaction.now,
        ),
    )


def find_channels(connection: apsw.Connection, channel_config_ids: Collection[str]) -> dict[str, Channel]:
    """See `DirectoryStore.find_channels`."""
    found = {}
    for channel_config_id in channel_config_ids:
        row = connection.execute(
            f"SELECT {COLUMNS} {FROM_CHANNEL} WHERE c.channel_config_id = ?", (channel_config_id,)
        ).fetchone()
        if row:
            found[channel_config_id] = _from_row(row)
    return found


def load_channel(connection: apsw.Connection, channel_config_id: str) -> Channel:
    """Return a channel that isn't deleted. Raises `NotFound`."""
    channel = find_channels(connection, [channel_config_id]).get(channel_config_id)
    if channel is None or channel.state is ChannelState.DELETED:
        raise NotFound(f'no channel "{channel_config_id}"; see: mo channel list')
    return channel


def list_channels(connection: apsw.Connection, after: str, limit: int) -> list[Channel]:
    """See `DirectoryStore.list_channels`."""
    rows = connection.execute(
        f"SELECT {COLUMNS} {FROM_CHANNEL} WHERE c.channel_config_id > ? AND c.state <> 'DELETED' "
        "ORDER BY c.channel_config_id LIMIT ?",
        (after, limit),
    )
    return [_from_row(row) for row in rows]


def find_changes(connection: apsw.Connection, after: DirectoryPosition | None, limit: int) -> ChannelChanges:
    """See `DirectoryStore.find_changes`."""
    with one_moment(connection):
        here, start = revisions.find_start(connection, after)
        rows = connection.execute(
            f"SELECT {COLUMNS} {FROM_CHANNEL} WHERE c.revision > ? ORDER BY c.revision LIMIT ?", (start or 0, limit)
        ).fetchall()
    channels = [_from_row(row) for row in rows]
    if len(channels) < limit:
        return ChannelChanges(channels, here, caught_up=True, is_reset=start is None)
    here = here._replace(revision=channels[-1].revision)
    return ChannelChanges(channels, here, caught_up=False, is_reset=start is None)


def list_route_revisions(
    connection: apsw.Connection, channel_config_id: str, before: int | None, limit: int
) -> list[RouteRevision]:
    """See `DirectoryStore.list_route_revisions`."""
    rows = connection.execute(
        "SELECT route_revision, created_at, routes FROM route_set "
        "WHERE channel_config_id = ?1 AND (?2 IS NULL OR route_revision < ?2) ORDER BY route_revision DESC LIMIT ?3",
        (channel_config_id, before, limit),
    )
    return [RouteRevision(revision, created_at, load_routes(routes)) for revision, created_at, routes in rows]


def _signing_of(channel: Channel) -> tuple[SignatureCheck, frozenset[str]]:
    """Return what the counts of signatures are about. A secret that is sealed anew is the same."""
    return channel.signature_check, frozenset(secret.secret_id for secret in channel.signature_secrets)


def _check_revision(current: Channel, expected: int | None) -> None:
    if expected not in {None, current.revision}:
        raise Conflict(f'channel "{current.channel_config_id}" has changed meanwhile; read it again and repeat')


def _overwrite(transaction: Transaction, channel: Channel) -> None:
    transaction.connection.execute(f"REPLACE INTO channel VALUES ({', '.join('?' * 18)})", _to_row(channel))


def _name_destinations(transaction: Transaction, names: Collection[str | None]) -> None:
    transaction.connection.executemany(
        "INSERT INTO destination (name) VALUES (?) ON CONFLICT DO NOTHING", [(name,) for name in names if name]
    )


def _count_pending(connection: apsw.Connection, channel_config_id: str) -> tuple[int, int, int]:
    held = connection.execute(
        "SELECT count(*) FROM message WHERE channel_config_id = ? AND hold_reason IS NOT NULL", (channel_config_id,)
    ).get
    waiting = connection.execute(
        "SELECT coalesce(sum(tail - head + 1), 0) FROM lane WHERE channel_config_id = ? AND due_at IS NOT NULL",
        (channel_config_id,),
    ).get
    dead = connection.execute("SELECT count(*) FROM dead_letter WHERE channel_config_id = ?", (channel_config_id,)).get
    return held, waiting, dead


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


def _from_row(row: tuple[Any, ...]) -> Channel:
    return Channel(
        channel_config_id=row[0],
        provider=row[1],
        number=row[2],
        credentials=Credentials(row[3], row[4], row[5], row[6], row[7]),
        state=ChannelState(row[8]),
        destination=row[9],
        infer_message_type=bool(row[10]),
        route_revision=row[11],
        revision=row[12],
        created_at=row[13],
        updated_at=row[14],
        affinity_seconds=row[15],
        signature_check=SignatureCheck(row[16]),
        signature_secrets=load_secrets(row[17]),
        routes=load_routes(row[18]),
    )
