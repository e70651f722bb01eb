"""The shim's copy of the channel directory, which is what callers are verified against.

Fed by `ChannelDirectory.WatchChannels`, kept on disk, the channels in use in memory. Once it was complete it serves
for ever: with the service away, and after a restart too.
"""

import asyncio
import logging
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from typing import NoReturn

from aicc.mo.v1.channel_directory_pb2 import (
    CHANNEL_STATE_DISABLED,
    CHANNEL_STATE_UNSPECIFIED,
    SIGNATURE_CHECK_ENFORCE,
    SIGNATURE_CHECK_OBSERVE,
    SIGNATURE_SECRET_KIND_AUTH_TOKEN,
    SIGNATURE_SECRET_KIND_SHARED_KEY,
    ChannelReplica,
    WatchChannelsResponse,
)

from shim.channel import Channel, PasswordHash
from shim.errors import ServiceFaultError, ServiceUnavailableError, StorageError
from shim.link import Link
from shim.metrics import ReplicaMetrics
from shim.passwords import Hashing
from shim.replica_store import Change, Position, ReplicaStore
from shim.signature import Secret, SecretKind, SignatureCheck

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 1.0
_MAX_CHANNELS_IN_MEMORY = 10_000
"""Those used longest ago make room, and are read from disk when used again."""
_NOWHERE = Position(directory_id="", revision=0)

_CHECKS = {
    SIGNATURE_CHECK_OBSERVE: SignatureCheck.OBSERVE,
    SIGNATURE_CHECK_ENFORCE: SignatureCheck.ENFORCE,
}
_KINDS = {
    SIGNATURE_SECRET_KIND_AUTH_TOKEN: SecretKind.AUTH_TOKEN,
    SIGNATURE_SECRET_KIND_SHARED_KEY: SecretKind.SHARED_KEY,
}


class Replica:
    """The channel directory, as new as the service last told."""

    def __init__(
        self,
        store: ReplicaStore,
        link: Link,
        *,
        metrics: ReplicaMetrics,
        clock: Callable[[], float],
        forget_others: Callable[[], None] = lambda: None,
    ) -> None:
        """`forget_others` is called when the directory has lost changes: other copies on this host may have them."""
        self._store = store
        self._link = link
        self._metrics = metrics
        self._clock = clock
        self._forget_others = forget_others
        self._channels: OrderedDict[str, Channel] = OrderedDict()
        self._heard_at = math.nan
        self._is_taking_snapshot = False
        self._was_connected = True
        self.is_connected = False
        """Whether the directory is being followed."""
        self.wanted_hashing: Hashing | None = None
        """How strong the service wants hashes to be; None before it told."""
        metrics.connected.set_function(lambda: self.is_connected)
        metrics.age_seconds.set_function(lambda: clock() - self._heard_at)
        metrics.revision.set_function(lambda: store.position.revision if store.position else 0)

    @property
    def is_complete(self) -> bool:
        """Whether the whole directory was received, ever."""
        return self._store.position is not None

    def find(self, channel_config_id: str, provider: str) -> Channel | None:
        """Return a channel of that service provider. Takes microseconds, from memory or from disk."""
        channel = self._channels.get(channel_config_id)
        if channel is None:
            encoded = self._store.find(channel_config_id)
            replica = ChannelReplica.FromString(encoded) if encoded else None
            if replica is None or replica.deleted:
                return None
            channel = self._channels[channel_config_id] = _to_channel(replica)
            if len(self._channels) > _MAX_CHANNELS_IN_MEMORY:
                self._channels.popitem(last=False)
        else:
            self._channels.move_to_end(channel_config_id)
        return channel if channel.provider == provider else None

    def learn(self, replica: ChannelReplica) -> None:
        """Take in a channel that the service told about outside of the stream; what is known newer stays."""
        if self.is_complete:
            self._store.apply([_to_change(replica)])
            self._channels.pop(replica.channel_config_id, None)

    async def follow(self) -> NoReturn:
        """Follow the directory for ever, through every failure of the service and of the disk."""
        failures = 0
        start = self._store.position or _NOWHERE
        while True:
            try:
                self._is_taking_snapshot = start is _NOWHERE
                self._store.begin_snapshot()
                await self._purge()
                async with aclosing(self._link.watch(*start)) as responses:
                    async for response in responses:
                        failures = 0
                        await self._receive(response)
            except (ServiceUnavailableError, StorageError) as error:
                self._lose(error)
                start = self._store.position or _NOWHERE
            except ServiceFaultError as error:
                self._lose(error)
                # What it has to say to our position makes no sense: from the beginning then.
                start = _NOWHERE
            finally:
                self.is_connected = False
            failures += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 0.05 * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads the shims

    async def _receive(self, response: WatchChannelsResponse) -> None:
        if not self.is_connected:
            self.is_connected = self._was_connected = True
            _log.info("directory_connected", extra={"revision": response.revision})
        self._heard_at = self._clock()
        if response.HasField("wanted_hashing"):
            self.wanted_hashing = Hashing(response.wanted_hashing.memory_kib, response.wanted_hashing.passes)
        self._metrics.changes.inc(len(response.channels))
        changes = [_to_change(replica) for replica in response.channels]
        position = Position(response.directory_id, response.revision)
        if response.reset:
            self._store.begin_snapshot()
            self._is_taking_snapshot = True
        if self._is_taking_snapshot:
            self._store.add_to_snapshot(changes)
            if response.caught_up:
                await self._finish_snapshot(position)
            return
        self._check_directory(position)
        if position != self._store.position or changes:
            self._store.apply(changes, position)
        for change in changes:
            self._channels.pop(change.channel_config_id, None)

    async def _finish_snapshot(self, position: Position) -> None:
        if self._store.position is not None:
            self._forget_others()
        self._store.finish_snapshot(position)
        self._is_taking_snapshot = False
        self._channels.clear()
        self._metrics.snapshots.inc()
        _log.info("directory_received", extra={"revision": position.revision})
        await self._purge()

    async def _purge(self) -> None:
        for _ in self._store.purge():
            await asyncio.sleep(0)

    def _check_directory(self, position: Position) -> None:
        if self._store.position and position.directory_id != self._store.position.directory_id:
            raise ServiceFaultError("the service went over to another directory without a reset")

    def _lose(self, error: Exception) -> None:
        if self._was_connected or isinstance(error, StorageError):
            # Once, not at every try meanwhile.
            _log.warning("directory_lost", extra={"reason": str(error)})
        self._was_connected = False


def _to_change(replica: ChannelReplica) -> Change:
    return Change(replica.channel_config_id, replica.revision, replica.SerializeToString())


def _to_channel(replica: ChannelReplica) -> Channel:
    return Channel(
        channel_config_id=replica.channel_config_id,
        provider=replica.provider,
        is_enabled=replica.state not in {CHANNEL_STATE_UNSPECIFIED, CHANNEL_STATE_DISABLED},
        webhook_user=replica.webhook_user,
        password_hashes=tuple(
            PasswordHash(
                password_hash.phc,
                password_hash.expire_time.ToMicroseconds() / 1e6 if password_hash.HasField("expire_time") else None,
                password_hash.password_id,
            )
            for password_hash in replica.password_hashes
        ),
        credential_revision=replica.credential_revision,
        infer_message_type=replica.infer_message_type,
        signature_check=_CHECKS.get(replica.signature_check, SignatureCheck.OFF),
        signature_secrets=tuple(
            Secret(_KINDS[secret.kind], secret.sealed) for secret in replica.signature_secrets if secret.kind in _KINDS
        ),
    )
