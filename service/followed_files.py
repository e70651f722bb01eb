"""What is read from files that may change while the process runs: certificates, roles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

T = TypeVar("T")


class BadFile(Exception):
    """A file can't be used; the message names it, and says why and what to do."""


class FollowedFiles(Generic[T]):
    """What `read` makes of some files: `current` is as new as they are, and never half of a change or a broken one."""

    def __init__(self, name: str, paths: Sequence[Path], read: Callable[[], T]) -> None:
        """Read for the first time; raises `BadFile`, as `read` does. `name` begins the events that are logged."""
        self._name = name
        self._paths = paths
        self._read = read
        self._known = self._look()
        self.current = read()

    async def follow(self) -> NoReturn:
        """Read again whenever the files have changed, and then been still for a second; for ever."""
        before = self._known
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._look()
            if now == before != self._known:
                self._known = now
                self._read_again()
            before = now

    def _read_again(self) -> None:
        try:
            self.current = self._read()
        except BadFile as error:
            log.error(
                f"{self._name}_refused", extra={"reason": str(error), "action": "what was read before stays in use"}
            )
        else:
            log.info(f"{self._name}_reloaded", extra={"files": [str(path) for path in self._paths]})

    def _look(self) -> Sequence[tuple[int, int, int] | None]:
        """Return what tells one state of the files from another; a link counts as what it leads to."""
        return [_fingerprint(path) for path in self._paths]


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read_file(path: Path, flag: str) -> bytes:
    """Return what is in a file. Raises `BadFile`, naming the flag that chose it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"can't read {path} ({flag}): {error.strerror}") from None
