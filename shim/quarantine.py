"""Requests that are authenticated but no valid MO message: kept raw, for an operator to look at and retry.

Nobody waits for it. A request that was refused may be lost when too much else waits: it had its 4xx.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn
from uuid import uuid4

from aicc.mo.v1.message_ingest_pb2 import QuarantinedRequest
from aicc.mo.v1.message_pb2 import FieldViolation, Parameter

from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.journal import EntryKind, Journal, JournalError
from shim.link import Link, encode_quarantined
from shim.metrics import QuarantineMetrics
from shim.translation.forms import Violation

MAX_BATCH_REQUESTS = 100
MAX_BATCH_BYTES = 2**21 - 2**16
_MAX_WAITING_REQUESTS = 1_000
_MAX_WAITING_BYTES = 8 * 2**20
_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie"}


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that was answered 400."""

    integrator: str
    channel_config_id: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    received_at_ns: int
    reasons: Sequence[Violation]


def encode_refused(request: RefusedRequest) -> bytes:
    """Encode a request that was refused, without its credentials."""
    quarantined = QuarantinedRequest(
        entry_id=uuid4().hex,
        channel_config_id=request.channel_config_id,
        integrator=request.integrator,
        headers=[
            Parameter(name=name, value=value) for name, value in request.headers if name.lower() not in _SECRET_HEADERS
        ],
        body=request.body,
        reasons=[FieldViolation(field=reason.field, description=reason.detail) for reason in request.reasons],
    )
    quarantined.receive_time.FromNanoseconds(request.received_at_ns)
    return encode_quarantined(quarantined)


class Quarantine:
    """Sends invalid requests to the service, in the background."""

    def __init__(self, link: Link, journal: Journal, *, metrics: QuarantineMetrics) -> None:
        self._link = link
        self._journal = journal
        self._metrics = metrics
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()

    def keep(self, request: RefusedRequest) -> None:
        """Keep a request, unless too much waits already: then it is counted as dropped."""
        if len(self._waiting) >= _MAX_WAITING_REQUESTS or self._waiting_bytes + len(request.body) > _MAX_WAITING_BYTES:
            self._metrics.dropped.inc()
            return
        payload = encode_refused(request)
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
        self._arrived.set()

    async def run(self) -> NoReturn:
        """Send what was kept, for ever; what the service doesn't take goes to the journal."""
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            try:
                await self._link.quarantine(b"".join(batch))
                self._metrics.kept.inc(len(batch))
            except (ServiceUnavailableError, ServiceFaultError):
                self._journal_all(batch)
            except asyncio.CancelledError:
                self._journal_all(batch)
                raise

    def drain(self) -> None:
        """Put what still waits into the journal. Before that closes, and after `run` was cancelled."""
        while self._waiting:
            self._journal_all(self._next_batch())

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_REQUESTS:
            size += len(self._waiting[0])
            if size > MAX_BATCH_BYTES and batch:
                break
            batch.append(self._waiting.popleft())
            self._waiting_bytes -= len(batch[-1])
        if not self._waiting:
            self._arrived.clear()
        return batch

    def _journal_all(self, batch: Sequence[bytes]) -> None:
        for payload in batch:
            try:
                self._journal.append(EntryKind.QUARANTINE, payload, self._settle)
            except JournalError:
                self._metrics.dropped.inc()

    def _settle(self, error: JournalError | None) -> None:
        (self._metrics.dropped if error else self._metrics.journalled).inc()
