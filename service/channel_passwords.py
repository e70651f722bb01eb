"""The passwords of channels: replaced, hashed more strongly when that is wanted, and when they were last used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from service import checks, passwords
from service.directory import ChannelDirectory, WithPassword
from service.errors import Conflict, InvalidRequest, Violation
from service.models import AuditEntry, Channel, Credentials, PasswordUse
from service.passwords import Hasher, Hashing
from service.store.contract import Clock, DirectoryStore

DEFAULT_GRACE_SECONDS = 24 * 3600
LONGEST_GRACE_SECONDS = 30 * 24 * 3600
MOST_REPORTED = 1000


class LastUses(NamedTuple):
    """When a channel's password was last used, and the one before it; None: not since it was set."""

    current: int | None
    previous: int | None


class ChannelPasswords:
    """Changes passwords and their hashes. Hashes that aren't of the hasher's setting are to be made anew."""

    def __init__(self, directory: ChannelDirectory, store: DirectoryStore, hasher: Hasher, clock: Clock) -> None:
        self._directory = directory
        self._store = store
        self._clock = clock
        self._hasher = hasher
        self.hashing = hasher.hashing

    async def rotate(self, channel_config_id: str, password: str, *, grace_seconds: float, actor: str) -> WithPassword:
        """Replace the password; the old one ends after `grace_seconds`. Raises `NotFound`, `InvalidRequest`."""
        known = await self._directory.load(channel_config_id)
        checks.refuse([*_check_chosen(password, known), *_check_grace(grace_seconds)])
        chosen = password or passwords.generate_password()
        old = known.credentials.password_hash if grace_seconds else None
        hashed = await self._hasher.hash(chosen, like=old)
        expires_at = self._clock() + round(grace_seconds * 1_000_000) if grace_seconds else None

        def rotate(channel: Channel) -> Channel:
            _refuse_rotated(channel.credentials, known.credentials)
            credentials = Credentials(
                channel.credentials.webhook_user, hashed, old, expires_at, channel.credentials.revision + 1
            )
            return replace(channel, credentials=credentials)

        details = {"channel": channel_config_id, "grace_seconds": f"{grace_seconds:g}"}
        entry = AuditEntry(actor, "password-rotate", details)
        return WithPassword(
            await self._directory.update(channel_config_id, rotate, entry=entry), "" if password else chosen
        )

    async def upgrade(self, channel_config_id: str, phc: str, *, credential_revision: int, actor: str) -> bool:
        """Replace the hash by a stronger one of the same password, which who made it vouches for.

        Returns False, and changes nothing, when that is no longer wanted or the channel changes just
        then. Raises `NotFound`, and `InvalidRequest` for a hash that is of another setting than wanted.
        """
        checks.refuse(_check_hash(phc, self.hashing))
        channel = await self._directory.load(channel_config_id)
        if channel.credentials.revision != credential_revision or not self._is_upgradable(channel.credentials):
            return False
        # What is left of a password that has ended has another salt from now on.
        credentials = replace(
            channel.credentials,
            password_hash=phc,
            previous_password_hash=None,
            previous_password_expires_at=None,
        )
        entry = AuditEntry(actor, "password-rehash", {"channel": channel_config_id})
        with suppress(Conflict):
            await self._directory.update(
                channel_config_id,
                lambda now: replace(now, credentials=credentials),
                expected=channel.revision,
                entry=entry,
            )
            return True
        return False

    async def note_uses(self, uses: Sequence[PasswordUse]) -> None:
        """Keep when shims saw passwords used. Raises `InvalidRequest`."""
        if len(uses) > MOST_REPORTED:
            raise InvalidRequest([Violation("uses", f"must be at most {MOST_REPORTED}")])
        await self._store.note_password_uses(uses)

    async def find_last_uses(self, channel: Channel) -> LastUses:
        """Return when the passwords of a channel were last used."""
        uses = {use.password_id: use.used_at for use in await self._store.find_password_uses(channel.channel_config_id)}
        credentials = channel.credentials
        return LastUses(uses.get(credentials.password_id), uses.get(credentials.previous_password_id or ""))

    def _is_upgradable(self, credentials: Credentials) -> bool:
        ends_at = credentials.previous_password_expires_at
        has_previous = credentials.previous_password_hash is not None and (ends_at is None or self._clock() < ends_at)
        return not has_previous and passwords.is_weaker(credentials.password_hash, self.hashing)


def _refuse_rotated(now: Credentials, known: Credentials) -> None:
    # A new revision alone is another user, a new hash alone the same password hashed more strongly.
    if now.password_hash != known.password_hash and now.revision != known.revision:
        raise Conflict("the password was rotated by somebody else meanwhile; repeat if it still has to be")


def _check_chosen(password: str, channel: Channel) -> Sequence[Violation]:
    return list(checks.check_password(password, channel)) if password else ()


def _check_grace(seconds: float) -> Sequence[Violation]:
    if 0 <= seconds <= LONGEST_GRACE_SECONDS:
        return ()
    return [Violation("grace_period", "must be 0 s to 30 days")]


def _check_hash(phc: str, wanted: Hashing) -> Iterator[Violation]:
    if not passwords.is_of(phc, wanted):
        yield Violation(
            "phc",
            f"must be an argon2id hash with m={wanted.memory_kib}, t={wanted.passes}, p=1, 16 bytes of salt and 32 of "
            "hash, in the PHC string format",
        )
