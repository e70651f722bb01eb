"""A process that appends messages to a journal one after the other, and says of each when it is on disk."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from shim.journal import Journal, Marks
from shim.metrics import JournalMetrics
from tests.faults import crash_vfs
from tests.shim.journals import append, message


async def append_for_ever(folder: Path) -> None:
    metrics = JournalMetrics(CollectorRegistry())
    journal = Journal(folder, 0, Marks(folder), max_bytes=2**40, metrics=metrics)
    print("open", flush=True)
    first = int(sys.stdin.readline())
    for number in range(first, first + 10_000):
        parts = [message(f"SM{number:06d}-{part}", body="x" * 2_000) for part in range(3)]
        assert set(await append(journal, *parts)) == {None}
        print(number, flush=True)


if __name__ == "__main__":
    kept = crash_vfs.register()
    asyncio.run(append_for_ever(Path(sys.argv[1])))
