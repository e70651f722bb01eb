"""What can be done to processes of any kind, and asked about them (Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path

_LOOK_SECONDS = 0.01
_END_SECONDS = 30.0


def find_children(pid: int) -> list[int]:
    """Return the children of a process; none when it is gone."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                children += map(int, task.joinpath("children").read_text("ascii").split())
    return children


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; nothing happens to a process that is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def freeze(pid: int, seconds: float) -> None:
    """Stop a process for a while; it may be gone by the end of it."""
    send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(pid, signal.SIGCONT)


def kill_with_children(pid: int) -> None:
    """End a process and its children at one moment, as when their machine fails; the children are gone on return."""
    send(pid, signal.SIGSTOP)  # it starts no more of them, and does nothing about those that end
    children = find_children(pid)
    for child in children:
        send(child, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS
    while not all(map(_has_ended, children)):
        assert time.monotonic() < deadline, "processes that were killed don't end"
        time.sleep(_LOOK_SECONDS)
    send(pid, signal.SIGKILL)


def limit_file_size(pid: int, size: int | None) -> None:
    """Let a process write no file beyond that size, until it is told None."""
    with contextlib.suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))


def _has_ended(pid: int) -> bool:
    """Whether a process holds nothing any more; that its parent hasn't asked for its end doesn't matter."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}
