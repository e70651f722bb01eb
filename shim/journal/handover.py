"""Hands entries over to the service: what it takes, what it refuses, and what it chokes on."""

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ACCEPTED,
    INGEST_OUTCOME_DUPLICATE,
    INGEST_OUTCOME_HELD,
    INGEST_OUTCOME_REJECTED,
    IngestBatchRequest,
    IngestResult,
    QuarantinedRequest,
)
from aicc.mo.v1.message_pb2 import FieldViolation

from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.journal.entry import EntryKind
from shim.journal.source import Waiting
from shim.link import FROM_JOURNAL, Link, encode_quarantined
from shim.metrics import JournalMetrics
from shim.translation import TRANSLATORS

_log = logging.getLogger(__name__)

_MAX_QUARANTINED = 100
_DONE = {
    INGEST_OUTCOME_ACCEPTED: "accepted",
    INGEST_OUTCOME_DUPLICATE: "duplicate",
    INGEST_OUTCOME_HELD: "held",
}
_NOT_ABOUT_AN_ENTRY = {"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"}
"""Faults of the service, or of who is called so: no entry is to blame, and an operator mends them."""
_TRIES = 3

_INTEGRATOR = "twilio"
"""Whose form a message is restored to that the service refused after its 2xx."""
KeepAside = Callable[[Waiting, str], None]


class Handover:
    """Hands entries over, each until the service has it in one way or another."""

    def __init__(self, link: Link, keep_aside: KeepAside, metrics: JournalMetrics) -> None:
        self._link = link
        self._keep_aside = keep_aside
        self._metrics = metrics
        self._tries: dict[str, int] = {}

    async def hand_over(self, entries: Sequence[Waiting]) -> None:
        """Have the service take all entries, the messages in their order.

        Raises `ServiceUnavailableError` when it can't now: then some may be handed over already, and all may be
        tried again.
        """
        messages = [waiting for waiting in entries if waiting.entry.kind == EntryKind.MESSAGE]
        requests = [waiting for waiting in entries if waiting.entry.kind == EntryKind.QUARANTINE]
        if messages:
            await self._ingest(messages)
        for start in range(0, len(requests), _MAX_QUARANTINED):
            await self._quarantine(requests[start : start + _MAX_QUARANTINED])
        for waiting in entries:
            if waiting not in messages and waiting not in requests:
                self._set_aside(waiting, "it is of a kind that this version doesn't know")
        for waiting in entries:
            self._tries.pop(waiting.entry_id, None)

    async def _ingest(self, messages: Sequence[Waiting]) -> None:
        try:
            results = await self._link.send(FROM_JOURNAL + b"".join([waiting.entry.payload for waiting in messages]))
            if len(results) != len(messages):
                raise ServiceFaultError(f"{len(results)} results came back for {len(messages)} messages")
        except ServiceFaultError as fault:
            if len(messages) > 1 and str(fault) not in _NOT_ABOUT_AN_ENTRY:
                # Which of them is it?
                middle = len(messages) // 2
                await self._ingest(messages[:middle])
                await self._ingest(messages[middle:])
                return
            self._count_try(messages[0], fault)
            await self._refuse(messages[0], [FieldViolation(description=f"the service failed on it: {fault}")])
            return
        for waiting, result in zip(messages, results, strict=True):
            await self._settle(waiting, result)

    async def _settle(self, waiting: Waiting, result: IngestResult) -> None:
        if outcome := _DONE.get(result.outcome):
            self._metrics.handed_over[outcome].inc()
        elif result.outcome == INGEST_OUTCOME_REJECTED:
            await self._refuse(waiting, result.violations)
        else:
            await self._refuse(waiting, [FieldViolation(description=f"unknown outcome {result.outcome}")])

    async def _refuse(self, waiting: Waiting, reasons: Sequence[FieldViolation]) -> None:
        """Quarantine a message that had its 2xx; nothing waits for what the service will never take."""
        _log.error("message_quarantined", extra={"fields": [reason.field for reason in reasons]})
        await self._quarantine([waiting], _encode_accepted(waiting.entry.payload, waiting.entry_id, reasons))

    async def _quarantine(self, requests: Sequence[Waiting], batch: bytes | None = None) -> None:
        try:
            await self._link.quarantine(batch or b"".join([waiting.entry.payload for waiting in requests]))
        except ServiceFaultError as fault:
            if len(requests) > 1 and str(fault) not in _NOT_ABOUT_AN_ENTRY:
                for waiting in requests:
                    await self._quarantine([waiting])
                return
            self._count_try(requests[0], fault)
            self._set_aside(requests[0], str(fault))
            return
        self._metrics.handed_over["quarantined"].inc(len(requests))

    def _count_try(self, waiting: Waiting, fault: ServiceFaultError) -> None:
        """Raise `ServiceUnavailableError` while the fault may pass."""
        tries = self._tries[waiting.entry_id] = self._tries.get(waiting.entry_id, 0) + 1
        if tries < _TRIES or str(fault) in _NOT_ABOUT_AN_ENTRY:
            raise ServiceUnavailableError(str(fault)) from fault

    def _set_aside(self, waiting: Waiting, reason: str) -> None:
        self._keep_aside(waiting, reason)
        self._metrics.handed_over["kept_aside"].inc()
        _log.error("entry_kept_aside", extra={"entry_id": waiting.entry_id, "reason": reason})


def _encode_accepted(payload: bytes, entry_id: str, reasons: Sequence[FieldViolation]) -> bytes:
    """Encode a message that had its 2xx, and that the service refuses, as the request that it was."""
    message = IngestBatchRequest.FromString(payload).messages[0]
    quarantined = QuarantinedRequest(
        entry_id=entry_id,
        channel_config_id=message.channel_config_id,
        integrator=_INTEGRATOR,
        body=urlencode(TRANSLATORS[_INTEGRATOR].to_form(message)).encode(),
        reasons=reasons,
        receive_time=message.receive_time,
        is_accepted=True,
    )
    return encode_quarantined(quarantined)
