"""Retention: removes what is past its time, in small batches between which others write."""

from __future__ import annotations

import asyncio
import logging

from service.errors import StoreUnavailable
from service.store.contract import RetentionStore

log = logging.getLogger(__name__)

LOOKED_AT_ONCE = 100
"""A transaction of about 10 ms, for which ingest waits."""
PAUSE_SECONDS = 0.05
INTERVAL_SECONDS = 60.0


class Pruner:
    """Looks every minute, and goes on while there is more to prune."""

    def __init__(
        self, store: RetentionStore, *, pause_seconds: float = PAUSE_SECONDS, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._pause_seconds = pause_seconds
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Prune until it is cancelled. A store that is away is asked again at the next look."""
        while True:
            try:
                await self._prune_all()
            except StoreUnavailable as error:
                log.warning("prune_failed", extra={"reason": str(error)})
            await asyncio.sleep(self._interval_seconds)

    async def _prune_all(self) -> None:
        looked_at = await self._store.prune(limit=LOOKED_AT_ONCE)
        while looked_at:
            await asyncio.sleep(self._pause_seconds)
            looked_at = await self._store.prune(limit=LOOKED_AT_ONCE)
