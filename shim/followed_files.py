"""Files that may change while the process runs."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

_LOOK_SECONDS = 1.0


class FollowedFiles:
    """Some files that belong together, and when they change."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Remember how they are. Read them after that, and no change is missed."""
        self._paths = paths
        self._known = self._look()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever they have changed, and then been still for a second: nobody reads half of a change."""
        before = self._known
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self._look()
            if now == before != self._known:
                self._known = now
                yield
            before = now

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_fingerprint(path) for path in self._paths]


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
