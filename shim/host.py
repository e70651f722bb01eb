"""What a host has once, however many workers: the journal's drainer, its link, and the reports about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shim.errors import StartError
from shim.health import Readiness, Reason
from shim.journal import Marks
from shim.journal.drainer import Drainer, JournalState, load_handover
from shim.lifetime import keep_running
from shim.metrics import JournalMetrics
from shim.settings import Settings
from shim.state_dir import find_journal

if TYPE_CHECKING:
    from shim.reports import ReportingLink

_log = logging.getLogger(__name__)

_LAST_LOOKS = 50
"""How often a shim that stops looks whether what its workers left is handed over, which takes a moment."""
_LOOK_SECONDS = 0.02
_LINK_PAUSE_SECONDS = 1.0


class Host:
    """The journal of all workers, drained until the stack unwinds; then what remains is told."""

    def __init__(self, stack: AsyncExitStack, settings: Settings, metrics: JournalMetrics) -> None:
        """Set the journal in order, before any worker takes a request.

        Raises `StartError` when the state directory can't be written.
        """
        self._settings = settings
        folder = find_journal(settings)
        self._marks = Marks(folder)
        stack.callback(self._marks.close)
        self._link: ReportingLink | None = None
        stack.push_async_callback(self._close_link)
        self._drainer = Drainer(folder, self._marks, self._open_link, metrics=metrics)
        stack.callback(self._drainer.close)
        keep_running(stack, "drainer", self._drainer.run())
        stack.push_async_callback(self._hand_over_the_last)

    def keep_reporting(self, stack: AsyncExitStack, count_workers: Callable[[], int]) -> None:
        """Tell the service every 5 s how the host is, until the stack unwinds."""
        keep_running(stack, "reports", self._keep_reporting(count_workers))

    def find_reasons(self) -> Iterable[Reason]:
        """Return what is wrong with the journal."""
        yield from check_journal(self._drainer.state, self._settings.max_journal_bytes)

    async def _keep_reporting(self, count_workers: Callable[[], int]) -> None:
        load_handover()
        from shim.reports import keep_reporting

        link = await self._wait_for_link()
        await keep_reporting(link, self._settings.host_id, count_workers, lambda: self._drainer.state)

    async def _wait_for_link(self) -> ReportingLink:
        """Open the link as soon as the files of its TLS can be used: they may be half renewed just now."""
        told = ""
        while True:
            try:
                return self._open_link()
            except StartError as error:
                if str(error) != told:
                    told = str(error)
                    action = "they are tried every second; until then this host is silent in mo status"
                    _log.error("service_certificates_refused", extra={"reason": told, "action": action})
            await asyncio.sleep(_LINK_PAUSE_SECONDS)

    def _open_link(self) -> ReportingLink:
        """Return the link of the host. It is opened for the first who needs it: no host needs gRPC to be ready.

        Raises `StartError` when a file of its TLS can't be used.
        """
        if self._link is None:
            from shim.reports import ReportingLink

            self._link = ReportingLink(self._settings.service, self._settings.service_tls)
        return self._link

    async def _close_link(self) -> None:
        if self._link:
            await self._link.close()

    async def _hand_over_the_last(self) -> None:
        for _ in range(_LAST_LOOKS):
            if not self._marks.is_empty():
                await asyncio.sleep(_LOOK_SECONDS)
        if not self._marks.is_empty():
            state = self._drainer.state
            _log.warning("journal_remains", extra={"messages": state.messages, "oldest": _to_text(state.oldest_at)})


def check_journal(state: JournalState, max_bytes: int) -> Iterable[Reason]:
    """Say what the state of the journal means for the host's readiness."""
    if state.messages:
        since, oldest = _to_text(state.journalling_since), _to_text(state.oldest_at)
        detail = f"{state.messages} messages wait in the journal, the oldest since {oldest or 'just now'}."
        if state.last_failure:
            detail += f" The service doesn't take them ({state.last_failure}): start it, or check --service."
        facts = {"since": since, "messages": state.messages, "bytes": state.bytes, "oldest": oldest}
        yield Reason(Readiness.DEGRADED, "journalling", detail, facts)
    if state.bytes >= max_bytes:
        detail = f"The journal holds {state.bytes} of {max_bytes} bytes: callers get 503. Raise --max-journal-bytes."
        yield Reason(Readiness.NOT_READY, "journal_full", detail)
    if state.damaged:
        detail = f"{state.damaged} damaged files are kept in the journal; what could be read of them was handed over."
        yield Reason(Readiness.DEGRADED, "journal_damaged", detail, {"files": state.damaged})
    if state.kept_aside:
        detail = (
            f"The service refuses {state.kept_aside} entries; they are kept in the journal's handed.db. The log says "
            "why. They are offered again when the shim starts, and by mo-shim --hand-over-only."
        )
        yield Reason(Readiness.DEGRADED, "journal_kept_aside", detail, {"messages": state.kept_aside})


def _to_text(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z" if at is not None else None
