"""The channels that messages come in for, in memory and ready to route by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from service.errors import Stopping, StoreUnavailable
from service.models import Channel, DirectoryPosition
from service.routing import RouteIndex
from service.signals import Signal
from service.store.contract import DirectoryStore

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0
LOOK_AGAIN_ALONE_SECONDS = 3600.0
CHANGES_AT_ONCE = 500


class RoutedChannel(NamedTuple):
    """A channel, and its routes ready to be asked."""

    channel: Channel
    routes: RouteIndex


class RoutedChannels:
    """A bounded copy of the directory: the least recently used channel goes first."""

    def __init__(self, store: DirectoryStore, *, most: int = 10_000) -> None:
        self._store = store
        self._most = most
        self._channels: OrderedDict[str, RoutedChannel] = OrderedDict()
        self._forgotten = 0

    async def find(self, channel_config_ids: Collection[str]) -> dict[str, RoutedChannel]:
        """Return those that exist or existed."""
        found = {}
        missing = []
        for channel_config_id in channel_config_ids:
            channel = self._channels.get(channel_config_id)
            if channel is None:
                missing.append(channel_config_id)
                continue
            self._channels.move_to_end(channel_config_id)
            found[channel_config_id] = channel
        if missing:
            found.update(await self._load(missing))
        return found

    def forget(self, channel_config_id: str) -> None:
        """Load the channel anew when it is next asked for."""
        self._forgotten += 1
        self._channels.pop(channel_config_id, None)

    async def follow(self, changed: Signal, *, is_shared: bool) -> None:
        """Forget every channel that changes, also in another process, until `changed` is closed."""
        with contextlib.suppress(Stopping):
            await self._follow(changed, LOOK_AGAIN_SECONDS if is_shared else LOOK_AGAIN_ALONE_SECONDS)

    async def _follow(self, changed: Signal, longest_wait_seconds: float) -> None:
        position: DirectoryPosition | None = None
        while True:
            seen = changed.count
            try:
                changes = await self._store.find_changes(position, limit=CHANGES_AT_ONCE)
            except StoreUnavailable as error:
                log.warning("follow_failed", extra={"reason": str(error)})
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            if changes.is_reset:  # changes were lost: what is remembered may be of one that is not there any more
                self._channels.clear()
                self._forgotten += 1
            for channel in changes.channels:
                self.forget(channel.channel_config_id)
            position = changes.position
            if changes.caught_up:
                await changed.wait_past(seen, longest_wait_seconds)

    async def _load(self, channel_config_ids: Collection[str]) -> dict[str, RoutedChannel]:
        before = self._forgotten
        channels = await self._store.find_channels(channel_config_ids)
        # A thousand patterns take longer to compile than a message may wait for another channel's.
        loaded = await asyncio.to_thread(_index, channels.values())
        if self._forgotten == before:  # else what was loaded may be old already: use it once
            self._channels.update(loaded)
            while len(self._channels) > self._most:
                self._channels.popitem(last=False)
        return loaded


def _index(channels: Iterable[Channel]) -> dict[str, RoutedChannel]:
    return {channel.channel_config_id: RoutedChannel(channel, RouteIndex(channel.routes)) for channel in channels}
