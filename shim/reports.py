"""What a host tells the service about itself every 5 s, for `mo status`. Nothing depends on it."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import ReportShimRequest, ShimReport

from shim.journal.drainer import JournalState
from shim.link import Link

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
_REPORT_SECONDS = 2.0
_DISTRIBUTION = "aicc-mo-gateway"


class ReportingLink(Link):
    """The link of a whole host: it also reports."""

    async def report(self, report: ShimReport) -> bool:
        """Send a report; False when the service didn't take it."""
        try:
            await self._calls.directory.ReportShim(ReportShimRequest(report=report), timeout=_REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.debug("report_failed", extra={"reason": error.code().name})
            return False
        return True


async def keep_reporting(
    link: ReportingLink, host_id: str, count_workers: Callable[[], int], read_journal: Callable[[], JournalState]
) -> NoReturn:
    """Report for ever. A report that isn't taken is nothing: the next one says it all."""
    version = _find_version()
    while True:
        await link.report(make_report(host_id, version, count_workers(), read_journal()))
        await asyncio.sleep(_PAUSE_SECONDS)


def make_report(host_id: str, version: str, workers: int, journal: JournalState) -> ShimReport:
    """Say how a host is."""
    report = ShimReport(
        host_id=host_id,
        version=version,
        workers=workers,
        journal_messages=journal.messages,
        journal_bytes=journal.bytes,
    )
    if journal.oldest_at is not None:
        report.journal_oldest_time.FromDatetime(datetime.fromtimestamp(journal.oldest_at, UTC))
    if journal.journalling_since is not None:
        report.journalling_since_time.FromDatetime(datetime.fromtimestamp(journal.journalling_since, UTC))
    return report


def _find_version() -> str:
    from importlib import metadata  # no process waits for it before it serves

    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
