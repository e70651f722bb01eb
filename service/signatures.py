"""The secrets that requests are signed with: added, removed, sealed anew; and what checks with them found."""

from __future__ import annotations

import asyncio
import re
import secrets as random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from service import checks
from service.directory import ChannelDirectory
from service.errors import AlreadyExists, InvalidRequest, NotFound, Violation
from service.models import AuditEntry, Channel, SecretKind, SignatureCount, SignatureSecret
from service.secrets import KeyFile, Keys
from service.store.contract import Clock, Store

MOST_SECRETS = 8
"""Of a channel: each costs every request of it a computation."""
CHANNELS_AT_ONCE = 100
MOST_REPORTED = 1000

SECRET = re.compile(r"[!-~]{16,256}", re.ASCII)
SID = re.compile(r"(AC|SK)[0-9a-fA-F]{32}")


class AddedSecret(NamedTuple):
    """A channel whose secret was just added, and the secret's id."""

    channel: Channel
    secret_id: str


class Rotated(NamedTuple):
    """What a part of a rotation looked at and did, and after which channel to go on; None when that was all."""

    secrets: int
    resealed: int
    unreadable: Sequence[str]
    next_after: str | None


class SignatureSecrets:
    """Changes what requests may be signed with, and keeps it sealed."""

    def __init__(self, directory: ChannelDirectory, store: Store, key_file: KeyFile, clock: Clock) -> None:
        self._directory = directory
        self._store = store
        self._key_file = key_file
        self._clock = clock

    async def add(self, channel_config_id: str, kind: SecretKind | None, value: str, *, actor: str) -> AddedSecret:
        """Add a secret. Raises `InvalidRequest`, `NotFound`, `AlreadyExists`, `CannotSeal`."""
        if kind is None:
            raise InvalidRequest([Violation("kind", "must be an auth token or a shared key"), *_check_secret(value)])
        checks.refuse(_check_secret(value))
        keys = await self._load_keys()
        secret = SignatureSecret(random.token_hex(8), kind, self._clock(), keys.seal(value.encode()))

        def add(channel: Channel) -> Channel:
            checks.refuse(_check_room(channel))
            _refuse_repeat(channel, kind, value.encode(), keys)
            return replace(channel, signature_secrets=(*channel.signature_secrets, secret))

        entry = _entry(actor, "signature-secret-add", channel_config_id, secret.secret_id, kind)
        return AddedSecret(await self._directory.update(channel_config_id, add, entry=entry), secret.secret_id)

    async def remove(self, channel_config_id: str, secret_id: str, *, actor: str) -> Channel:
        """Remove a secret. Raises `NotFound`, also for a repeat.

        Raises `InvalidRequest` for the last one of a channel that enforces signatures.
        """
        found = _find_secret(await self._directory.load(channel_config_id), secret_id)

        def remove(channel: Channel) -> Channel:
            gone = _find_secret(channel, secret_id)
            return replace(channel, signature_secrets=tuple(s for s in channel.signature_secrets if s is not gone))

        entry = _entry(actor, "signature-secret-remove", channel_config_id, secret_id, found.kind)
        return await self._directory.update(channel_config_id, remove, entry=entry)

    async def rotate(self, *, after: str, actor: str) -> Rotated:
        """Seal the secrets of the next channels with the newest key. Raises `CannotSeal`. A repeat does nothing."""
        keys = await self._load_keys()
        channels = await self._directory.list(after=after, limit=CHANNELS_AT_ONCE + 1)
        page = channels[:CHANNELS_AT_ONCE]
        resealed = 0
        for channel in page:
            resealed += await self._reseal(channel, keys, actor)
        return Rotated(
            secrets=sum(len(channel.signature_secrets) for channel in page),
            resealed=resealed,
            unreadable=[channel.channel_config_id for channel in page if _has_unreadable(channel, keys)],
            next_after=page[-1].channel_config_id if len(channels) > len(page) else None,
        )

    async def add_counts(self, counts: Sequence[SignatureCount]) -> None:
        """Add what shims found. Raises `InvalidRequest`."""
        if len({count.channel_config_id for count in counts}) > MOST_REPORTED:
            checks.refuse([Violation("channels", f"must be at most {MOST_REPORTED}")])
        await self._store.add_signature_counts(counts)

    async def find_counts(self, channel_config_id: str) -> Sequence[SignatureCount]:
        """Return what shims found on a channel, the most recent first."""
        counts = await self._store.find_signature_counts(channel_config_id)
        return sorted(counts, key=lambda count: -count.last_at)

    async def _load_keys(self) -> Keys:
        return await asyncio.to_thread(self._key_file.load)

    async def _reseal(self, channel: Channel, keys: Keys, actor: str) -> int:
        stale = sum(keys.reseal(secret.sealed) not in {None, secret.sealed} for secret in channel.signature_secrets)
        if stale:
            details = {"channel": channel.channel_config_id, "secrets": str(stale)}
            entry = AuditEntry(actor, "signature-secrets-reseal", details)
            with suppress(NotFound):  # it was deleted meanwhile
                await self._directory.update(channel.channel_config_id, lambda now: _resealed(now, keys), entry=entry)
        return stale


def _resealed(channel: Channel, keys: Keys) -> Channel:
    return replace(
        channel,
        signature_secrets=tuple(
            replace(secret, sealed=keys.reseal(secret.sealed) or secret.sealed) for secret in channel.signature_secrets
        ),
    )


def _has_unreadable(channel: Channel, keys: Keys) -> bool:
    return any(keys.open(secret.sealed) is None for secret in channel.signature_secrets)


def _find_secret(channel: Channel, secret_id: str) -> SignatureSecret:
    for secret in channel.signature_secrets:
        if secret.secret_id == secret_id:
            return secret
    raise NotFound(
        f'channel "{channel.channel_config_id}" has no secret of that id; see: mo channel secret list '
        f"{channel.channel_config_id}"
    )


def _refuse_repeat(channel: Channel, kind: SecretKind, value: bytes, keys: Keys) -> None:
    for secret in channel.signature_secrets:
        if secret.kind is kind and keys.open(secret.sealed) == value:
            raise AlreadyExists(f'channel "{channel.channel_config_id}" has this secret already: {secret.secret_id}')


def _check_secret(value: str) -> Iterator[Violation]:
    if not SECRET.fullmatch(value):
        yield Violation("secret", "must be 16 to 256 printable characters of ASCII, without spaces")
    elif SID.fullmatch(value):
        yield Violation("secret", "is a SID, which is no secret: the auth token stands beside it in Twilio's console")


def _check_room(channel: Channel) -> Iterator[Violation]:
    if len(channel.signature_secrets) >= MOST_SECRETS:
        yield Violation("channel_config_id", f"has {MOST_SECRETS} secrets, the most; remove one that is not used")


def _entry(actor: str, action: str, channel_config_id: str, secret_id: str, kind: SecretKind) -> AuditEntry:
    return AuditEntry(actor, action, {"channel": channel_config_id, "secret_id": secret_id, "kind": kind.lower()})
