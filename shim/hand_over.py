"""`mo-shim --hand-over-only`: empties the journal of a host that takes no more requests."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shim.journal import Marks
from shim.journal.drainer import Drainer, JournalState
from shim.lifetime import cancel, log_lost_exceptions, stop_on_signal
from shim.link import Link
from shim.metrics import JournalMetrics
from shim.settings import Settings
from shim.state_dir import find_journal

_SHOW_SECONDS = 0.2


async def hand_over_only(settings: Settings) -> int:
    """Hand over until the journal is empty, then return 0; 1 when interrupted before, or when the service refuses some.

    Raises `StartError` when the state directory can't be written.
    """
    log_lost_exceptions()
    stopped = asyncio.Event()
    stop_on_signal(stopped, lambda: None)
    folder = find_journal(settings)
    async with AsyncExitStack() as stack:
        marks = Marks(folder)
        stack.callback(marks.close)
        link = Link(settings.service, settings.service_tls)
        stack.push_async_callback(link.close)
        drainer = Drainer(folder, marks, lambda: link, metrics=JournalMetrics(CollectorRegistry()))
        stack.callback(drainer.close)
        messages = drainer.state.messages
        handing_over = asyncio.create_task(drainer.hand_over_all())
        stack.push_async_callback(cancel, handing_over)
        stopping = asyncio.create_task(stopped.wait())
        stack.push_async_callback(cancel, stopping)
        with _show_progress() as progress:
            bar = progress.add_task("handing over", total=messages)
            while not (handing_over.done() or stopping.done()):
                await asyncio.wait({handing_over, stopping}, timeout=_SHOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                left = drainer.state.messages
                progress.update(bar, completed=max(0, messages - left), total=max(messages, left))
        if not handing_over.done():
            return _conclude_interrupted(drainer.state)
        return _conclude(handing_over.result(), messages)


def _show_progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _conclude(state: JournalState, messages: int) -> int:
    if state.kept_aside:
        _say(
            f"nothing waits any more, but the service refuses {state.kept_aside} messages, which stay in the journal's "
            "handed.db; its log and ours say why: mend that, or take a newer version, and start it again"
        )
        return 1
    _say(f"the journal is empty: {messages} messages are handed over")
    return 0


def _conclude_interrupted(state: JournalState) -> int:
    why = f", {state.last_failure}" if state.last_failure else ""
    age = f", the oldest {time.time() - state.oldest_at:.0f} s old" if state.oldest_at is not None else ""
    _say(f"interrupted{why}: {state.messages} messages remain in the journal{age}; start it again to go on")
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"mo-shim: {text}\n")
