"""When passwords were last used: what tells an operator that nobody needs the old one any more."""

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

from shim.channel import PasswordUse
from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.link import Link

_PAUSE_SECONDS = 60.0
_MAX_AT_ONCE = 1_000
_MAX_WAITING = 20_000
"""Passwords whose use waits to be told. What is beyond is told when it is used again."""


class PasswordUses:
    """Remembers the last use of each password, and tells the service once a minute."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used_at: dict[tuple[str, str], float] = {}

    def note(self, channel_config_id: str, password_id: str) -> None:
        """Take note that a caller has just used a password. For every request: it costs next to nothing."""
        key = (channel_config_id, password_id)
        if key in self._used_at or len(self._used_at) < _MAX_WAITING:
            self._used_at[key] = self._clock()

    async def run(self, link: Link) -> NoReturn:
        """Tell the service what is new, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.report(link)

    async def report(self, link: Link) -> None:
        """Tell the service what is new; what it doesn't take waits for the next time."""
        told, self._used_at = self._used_at, {}
        while told:
            keys = list(told)[:_MAX_AT_ONCE]
            try:
                await link.report_password_uses([PasswordUse(*key, told[key]) for key in keys])
            except (ServiceUnavailableError, ServiceFaultError, asyncio.CancelledError) as error:
                self._used_at = told | self._used_at
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            for key in keys:
                del told[key]
