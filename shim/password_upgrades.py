"""Hashes of passwords are made anew when the service wants stronger ones: only who sees a password can do that."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from shim.authorization import Verifier
from shim.channel import Channel
from shim.credentials import Credentials
from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.link import Link
from shim.metrics import UpgradeMetrics
from shim.passwords import Hashing, is_weaker

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN = 60.0
"""Between two tries with the same hash: the directory tells of the new one long before."""
_MAX_REMEMBERED = 10_000


class PasswordUpgrades:
    """Upgrades one hash at a time, behind the backs of the callers."""

    def __init__(
        self,
        *,
        find_wanted: Callable[[], Hashing | None],
        verifier: Verifier,
        link: Link,
        metrics: UpgradeMetrics,
        clock: Callable[[], float],
        monotonic_clock: Callable[[], float],
    ) -> None:
        """`find_wanted` tells what the service wants, None while that isn't known."""
        self._find_wanted = find_wanted
        self._verifier = verifier
        self._link = link
        self._metrics = metrics
        self._clock = clock
        self._monotonic_clock = monotonic_clock
        self._tried_at: OrderedDict[str, float] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def consider(self, channel: Channel, credentials: Credentials) -> None:
        """Have the hash of these credentials, which were just verified, made anew if it is weaker than wanted.

        For every request: it costs next to nothing when there is nothing to do.
        """
        wanted = self._find_wanted()
        if wanted is None or not is_weaker(channel.password_hashes[0].phc, wanted):
            return
        if self._task is None and self._is_alone(channel) and self._is_due(channel.password_hashes[0].phc):
            self._task = asyncio.get_running_loop().create_task(self._upgrade(channel, credentials.password, wanted))
            self._task.add_done_callback(self._finish)

    async def close(self) -> None:
        """Let go of what is under way."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _is_alone(self, channel: Channel) -> bool:
        """Whether no other password is valid: two must share their salt."""
        now = self._clock()
        return all(each.expires_at is not None and each.expires_at <= now for each in channel.password_hashes[1:])

    def _is_due(self, phc: str) -> bool:
        tried_at = self._tried_at.get(phc)
        return tried_at is None or self._monotonic_clock() - tried_at >= _SECONDS_BETWEEN

    async def _upgrade(self, channel: Channel, password: str, wanted: Hashing) -> None:
        phc = await self._verifier.make_hash(password, wanted)
        if phc is None:
            return  # callers wait to be verified, and come first: the next request tries again
        self._remember(channel.password_hashes[0].phc)
        try:
            upgraded = await self._link.upgrade_password_hash(
                channel.channel_config_id, channel.credential_revision, phc
            )
        except (ServiceUnavailableError, ServiceFaultError):
            self._metrics.failed.inc()
            return
        (self._metrics.upgraded if upgraded else self._metrics.unwanted).inc()
        if upgraded:
            _log.info("password_hash_upgraded", extra={"channel": channel.channel_config_id})

    def _remember(self, phc: str) -> None:
        self._tried_at[phc] = self._monotonic_clock()
        self._tried_at.move_to_end(phc)
        if len(self._tried_at) > _MAX_REMEMBERED:
            self._tried_at.popitem(last=False)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            _log.error("password_upgrade_failed", exc_info=error)
