"""Whether the service can do its work, and if not, why: asked of the store itself, again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from service import metrics
from service.errors import StoreUnavailable
from service.store.contract import Store

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
CHECK_AGAIN_SECONDS = 1.0


class Readiness:
    """Keeps what gRPC's health service says in step with what the store can do."""

    def __init__(self, store: Store, set_serving: Callable[[bool], Awaitable[None]]) -> None:
        self.concerns: Sequence[str] = ()
        """What an operator should mend, although the service works: as of the last look."""
        self._store = store
        self._standing_concerns: Sequence[str] = ()
        self._set_serving = set_serving
        self._is_serving = False
        self._is_draining = False

    def keep(self, concerns: Sequence[str]) -> None:
        """Have concerns that stay for as long as the process does."""
        self._standing_concerns = concerns

    async def find_reasons(self) -> Sequence[str]:
        """Return why the service isn't ready; nothing when it is."""
        if self._is_draining:
            return ["draining"]
        try:
            await self._store.check_alive()
        except StoreUnavailable as error:
            return [str(error)]
        return ()

    async def find_concerns(self) -> Sequence[str]:
        """Return what an operator should mend, although the service works."""
        try:
            return [*self._standing_concerns, *await self._store.find_concerns()]
        except StoreUnavailable as error:
            return [*self._standing_concerns, str(error)]

    async def watch(self) -> None:
        """Look every 5 s, every second while something is wrong, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS if self._is_serving else CHECK_AGAIN_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once, and say what was found."""
        reasons = await self.find_reasons()
        await self._say(not reasons, reasons)
        self.concerns = () if reasons else await self.find_concerns()
        metrics.CONCERNS.set(len(self.concerns))

    async def drain(self) -> None:
        """Say from now on that callers should go elsewhere."""
        self._is_draining = True
        await self._say(False, ["draining"])

    async def _say(self, is_serving: bool, reasons: Sequence[str]) -> None:
        if is_serving is self._is_serving:
            return
        self._is_serving = is_serving
        log.info("serving" if is_serving else "not_serving", extra={"reasons": [*reasons]})
        await self._set_serving(is_serving)
