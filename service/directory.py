"""The channel directory: changes to channels, and those who follow them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from service import checks, passwords
from service.channel_audit import describe_update
from service.errors import Conflict, NotFound, Violation
from service.models import (
    AuditEntry,
    Channel,
    ChannelChanges,
    ChannelState,
    Credentials,
    DirectoryPosition,
    MessageFacts,
    Route,
    RouteRevision,
    SignatureCheck,
)
from service.passwords import Hasher
from service.route_checks import check_routes
from service.route_trials import Trial, try_routes
from service.routed_channels import RoutedChannels
from service.routing import RouteIndex, RouteWarning, find_warnings
from service.signals import Signal
from service.store.contract import GATEWAY, Store

LONGEST_AFFINITY_SECONDS = 30 * 24 * 3600
MOST_TRIED = 10_000
UPDATE_TRIES = 5
CHANGES_AT_ONCE = 500
HEARTBEAT_SECONDS = 5.0


class WithPassword(NamedTuple):
    """A channel whose password was just set. `generated` is shown once; empty when it was given."""

    channel: Channel
    generated: str


class SetRoutes(NamedTuple):
    """The revision of routes that were just set, and what is suspicious about them."""

    revision: int
    warnings: Sequence[RouteWarning]


class TriedRoutes(NamedTuple):
    """What a draft would change, and what is suspicious about it."""

    trial: Trial
    warnings: Sequence[RouteWarning]


class ChannelDirectory:
    """Creates, changes and deletes channels. After each change, the next message is routed by it."""

    def __init__(self, store: Store, routed: RoutedChannels, changed: Signal, hasher: Hasher) -> None:
        self._store = store
        self._routed = routed
        self._changed = changed
        self._hasher = hasher

    async def create(self, channel: Channel, password: str, *, actor: str = GATEWAY) -> WithPassword:
        """Store a new channel; an empty password is generated. Raises `InvalidRequest`, `AlreadyExists`."""
        checks.refuse([*_check_channel(channel), *(checks.check_password(password, channel) if password else ())])
        chosen = password or passwords.generate_password()
        hashed = await self._hasher.hash(chosen)
        credentials = replace(channel.credentials, password_hash=hashed)
        stored = await self._store.create_channel(replace(channel, credentials=credentials), actor=actor)
        self._routed.forget(stored.channel_config_id)
        return WithPassword(stored, "" if password else chosen)

    async def load(self, channel_config_id: str) -> Channel:
        """Return a channel that isn't deleted. Raises `NotFound`."""
        channel = (await self._store.find_channels([channel_config_id])).get(channel_config_id)
        if channel is None or channel.state is ChannelState.DELETED:
            raise NotFound(f'no channel "{channel_config_id}"; see: mo channel list')
        return channel

    async def find_replica(self, channel_config_id: str) -> Channel | None:
        """Return a channel as shims keep it: a deleted one too, None when there never was one."""
        return (await self._store.find_channels([channel_config_id])).get(channel_config_id)

    async def list(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Return channels by id, from the first one after `after`."""
        return await self._store.list_channels(after=after, limit=limit)

    async def update(
        self,
        channel_config_id: str,
        change: Callable[[Channel], Channel],
        *,
        expected: int | None = None,
        actor: str = GATEWAY,
        entry: AuditEntry | None = None,
    ) -> Channel:
        """Store what `change` makes of the channel; with `expected`, only if that is its revision.

        The audit has `entry`; without one, which settings `actor` changed. Raises `NotFound`,
        `InvalidRequest`, and `Conflict` when somebody else was faster.
        """
        for tries_left in reversed(range(UPDATE_TRIES)):
            current = await self.load(channel_config_id)
            if expected not in {None, current.revision}:
                raise Conflict(f'channel "{channel_config_id}" has changed meanwhile; read it again and repeat')
            wanted = change(current)
            checks.refuse(_check_channel(wanted))
            try:
                stored = await self._store.replace_channel(
                    wanted, entry=entry or describe_update(actor, current, wanted)
                )
            except Conflict:
                if expected is not None or not tries_left:
                    raise
                continue
            self._routed.forget(channel_config_id)
            return stored
        raise AssertionError("the last try returns or raises")

    async def replace_routes(
        self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None, actor: str = GATEWAY
    ) -> SetRoutes:
        """Replace all routes, however suspicious. Raises `NotFound`, `InvalidRequest`, `Conflict`."""
        examined = await asyncio.to_thread(_examine, routes)
        revision = await self._store.replace_routes(channel_config_id, routes, expected=expected, actor=actor)
        self._routed.forget(channel_config_id)
        return SetRoutes(revision, examined.warnings)

    async def try_routes(
        self,
        channel_config_id: str,
        routes: Sequence[Route],
        read_facts: Callable[[bytes], MessageFacts],
        *,
        most_messages: int,
    ) -> TriedRoutes:
        """Try a draft on the channel's newest messages. Raises `NotFound`, `InvalidRequest`."""
        examined = await asyncio.to_thread(_examine, routes, *_check_most_messages(most_messages))
        await self.load(channel_config_id)
        today = (await self._routed.find([channel_config_id]))[channel_config_id]
        trial = await try_routes(self._store, today, examined.routes, read_facts, most=most_messages)
        return TriedRoutes(trial, examined.warnings)

    async def list_route_revisions(
        self, channel_config_id: str, *, before: int | None, limit: int
    ) -> Sequence[RouteRevision]:
        """Return the routes of a channel as they once were, newest first. Raises `NotFound`."""
        await self.load(channel_config_id)
        return await self._store.list_route_revisions(channel_config_id, before=before, limit=limit)

    async def delete(self, channel_config_id: str, *, expected: int | None, actor: str = GATEWAY) -> None:
        """Delete a channel. Raises `NotFound`, `Conflict`, `StillInUse`."""
        await self._store.delete_channel(channel_config_id, expected=expected, actor=actor)
        self._routed.forget(channel_config_id)

    async def watch(self, after: DirectoryPosition | None) -> AsyncIterator[ChannelChanges]:
        """Yield what changed after `after`, then every change, and an empty one every 5 s of silence."""
        while True:
            seen = self._changed.count
            changes = await self._store.find_changes(after, limit=CHANGES_AT_ONCE)
            yield changes
            after = changes.position
            if not changes.caught_up:
                continue
            while not await self._changed.wait_past(seen, HEARTBEAT_SECONDS):
                yield ChannelChanges((), after, caught_up=True)


def change_user(credentials: Credentials, webhook_user: str) -> Credentials:
    """Return credentials with another user: a new revision when it is another."""
    if webhook_user == credentials.webhook_user:
        return credentials
    return replace(credentials, webhook_user=webhook_user, revision=credentials.revision + 1)


class _Examined(NamedTuple):
    routes: RouteIndex
    warnings: Sequence[RouteWarning]


def _examine(routes: Sequence[Route], *further: Violation) -> _Examined:
    """Make routes ready to be asked, and look for what is suspicious. Raises `InvalidRequest`, naming `further` too.

    Takes 100 ms for the most routes that there may be.
    """
    checks.refuse([*further, *check_routes(routes)])
    index = RouteIndex(routes)
    return _Examined(index, list(find_warnings(index)))


def _check_most_messages(most: int) -> Iterator[Violation]:
    if not 1 <= most <= MOST_TRIED:
        yield Violation("max_messages", f"must be 0 to {MOST_TRIED}")


def _check_channel(channel: Channel) -> Iterator[Violation]:
    yield from checks.check_channel(channel)
    if not 0 <= channel.affinity_seconds <= LONGEST_AFFINITY_SECONDS:
        yield Violation("affinity", "must be 0 s to 30 days, in whole seconds")
    if channel.signature_check is SignatureCheck.ENFORCE and not channel.signature_secrets:
        yield Violation(
            "signature_check",
            "can't be enforced without a secret to check with; add one with: mo channel secret add, or only observe",
        )
