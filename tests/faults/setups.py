"""What the accounting test is run on."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.chaos import LINK, POSTGRES, PROCESSES, STANDBY, WHOLE_SHIM, FaultKind
from tests.faults.cluster import open_cluster
from tests.faults.gateway import Gateway, open_gateway

_EVERYWHERE = (*LINK, *PROCESSES, *WHOLE_SHIM)


class Setup(enum.Enum):
    """Where messages are kept, by which services."""

    SQLITE = "sqlite"
    """One service and one shim."""
    POSTGRES = "postgres"
    """Two services and two shims, before a primary and its synchronous standby."""
    PGBOUNCER = "pgbouncer"
    """The same before one server behind PgBouncer, in transaction mode."""

    @property
    def faults(self) -> Sequence[FaultKind]:
        """What can go wrong there."""
        return _FAULTS[self]

    @property
    def share(self) -> float:
        """What part of the time for all of them it gets."""
        return _SHARES[self]

    @asynccontextmanager
    async def open(self, folder: Path, *, workers: int) -> AsyncIterator[Gateway]:
        """Start it with so many workers, and with all of its data in `folder`, where they stay."""
        if self is Setup.SQLITE:
            async with open_gateway(folder, workers=workers) as gateway:
                yield gateway
            return
        # The user whom PostgreSQL runs as has a folder of its own in it.
        await asyncio.to_thread(folder.chmod, 0o711)
        is_pooled = self is Setup.PGBOUNCER
        async with (
            open_cluster(folder, has_standby=not is_pooled, has_pooler=is_pooled, keeps_data=True) as cluster,
            open_gateway(folder, workers=max(1, workers // 2), cluster=cluster) as gateway,
        ):
            yield gateway


_FAULTS = {
    Setup.SQLITE: _EVERYWHERE,
    Setup.POSTGRES: (*_EVERYWHERE, *POSTGRES, *STANDBY),
    Setup.PGBOUNCER: (*_EVERYWHERE, *POSTGRES),
}
_SHARES = {Setup.SQLITE: 0.5, Setup.POSTGRES: 0.35, Setup.PGBOUNCER: 0.15}
