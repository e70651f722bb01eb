"""How the parts of a process live: until the stack unwinds, and no failure of one goes unseen."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from shim.logs import find_constant

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def keep_running(stack: AsyncExitStack, name: str, work: Coroutine[Any, Any, object]) -> None:
    """Do work that has no end, until the stack unwinds."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(log_death)
    stack.push_async_callback(cancel, task)


async def cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


def log_lost_exceptions() -> None:
    """Log what no part of the running loop has caught as an event."""
    asyncio.get_running_loop().set_exception_handler(_log_lost_exception)


def stop_on_signal(stopped: asyncio.Event, end_at_once: Callable[[], None]) -> None:
    """Set `stopped` at the first SIGTERM or SIGINT; the second ends the process, after `end_at_once`."""

    def stop(number: signal.Signals) -> None:
        if stopped.is_set():
            end_at_once()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopped.set()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)


def log_death(task: "asyncio.Task[Any]") -> None:
    """Log what a task died of."""
    # The rest goes on: callers are verified by the last known directory, and readiness says so.
    if not task.cancelled() and (error := task.exception()):
        _log.error("task_died", extra={"task": task.get_name()}, exc_info=error)


def _log_lost_exception(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    _log.error(
        "exception_lost",
        extra={"where": find_constant(str(context["message"]))},
        exc_info=error if isinstance(error, BaseException) else None,
    )
