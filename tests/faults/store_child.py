"""A process that records messages one after the other, and says of each when it is on disk."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from service.models import RoutedMessage
from service.store.sqlite import SqliteStore
from tests.faults import crash_vfs
from tests.service.builders import a_message


async def record_for_ever(path: Path) -> None:
    store = SqliteStore.open(path)
    print("open", flush=True)
    first = int(sys.stdin.readline())
    for number in range(first, first + 10_000):
        # Several at once: a group commit.
        await asyncio.gather(*(store.record([_message(number, part)]) for part in range(3)))
        await store.claim("default", limit=1, max_bytes=10**9, lease_seconds=60)
        print(number, flush=True)


def _message(number: int, part: int) -> RoutedMessage:
    return a_message(f"SM{number:06d}-{part}", sender=f"whatsapp:+{part}", payload=bytes(2_000))


if __name__ == "__main__":
    kept = crash_vfs.register()
    asyncio.run(record_for_ever(Path(sys.argv[1])))
