"""Hands entries over to the service: what it takes, what it refuses, and what it chokes on."""

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ACCEPTED,
    INGEST_OUTCOME_DUPLICATE,
    INGEST_OUTCOME_ERASED,
    INGEST_OUTCOME_HELD,
    INGEST_OUTCOME_REJECTED,
    IngestResult,
    QuarantinedRequest,
)
from aicc.mo.v1.message_pb2 import FieldViolation

from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.journal.entry import EntryKind, Parcel
from shim.journal.payload import decode_kept
from shim.link import FROM_JOURNAL, Link, encode_quarantined
from shim.metrics import JournalMetrics
from shim.translation import TRANSLATORS

_log = logging.getLogger(__name__)

_MAX_QUARANTINED = 100
_DONE = {
    INGEST_OUTCOME_ACCEPTED: "accepted",
    INGEST_OUTCOME_DUPLICATE: "duplicate",
    INGEST_OUTCOME_HELD: "held",
    INGEST_OUTCOME_ERASED: "erased",
}
_NOT_ABOUT_AN_ENTRY = {"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"}
"""Faults of the service, or of who is called so: no entry is to blame, and an operator mends them."""
_TRIES = 3
_TRIES_ALONE = 60
"""Where no other message can show whether the service is well: about a minute."""
_MOST_WITNESSES = 3
_KNOWN_KINDS = frozenset(EntryKind)
KeepAside = Callable[[Parcel, str], None]


class Handover:
    """Hands entries over, each until the service has it in one way or another.

    An entry that it fails on is to blame only when it takes another one meanwhile: a service that fails on everything
    is waited for.
    """

    def __init__(self, link: Link, keep_aside: KeepAside, metrics: JournalMetrics) -> None:
        self._link = link
        self._keep_aside = keep_aside
        self._metrics = metrics
        self._tries: dict[str, int] = {}
        self._parcels: Sequence[Parcel] = ()
        self._taken: Parcel | None = None
        """The last message that the service took: it knows it, and says so when it is well."""

    @property
    def wants_others(self) -> bool:
        """Whether it has an entry that may be to blame, so that others are needed to compare it with."""
        return any(tries >= _TRIES for tries in self._tries.values())

    async def hand_over(self, parcels: Sequence[Parcel]) -> None:
        """Have the service take all parcels, the messages in their order.

        What nobody takes is kept aside. Raises `ServiceUnavailableError` when it can't now: then some may be handed
        over already, and all may be tried again.
        """
        self._parcels = parcels
        messages = [parcel for parcel in parcels if parcel.entry.kind == EntryKind.MESSAGE]
        requests = [parcel for parcel in parcels if parcel.entry.kind == EntryKind.QUARANTINE]
        if messages:
            await self._ingest(messages)
        for start in range(0, len(requests), _MAX_QUARANTINED):
            await self._quarantine(requests[start : start + _MAX_QUARANTINED])
        for parcel in parcels:
            if parcel.entry.kind not in _KNOWN_KINDS:
                self._set_aside(parcel, "it is of a kind that this version doesn't know")
        for parcel in parcels:
            self._tries.pop(parcel.entry_id, None)

    async def _ingest(self, messages: Sequence[Parcel]) -> None:
        try:
            results = await self._link.send(FROM_JOURNAL + b"".join([parcel.entry.payload for parcel in messages]))
            if len(results) != len(messages):
                raise ServiceFaultError(f"{len(results)} results came back for {len(messages)} messages")
        except ServiceFaultError as fault:
            if len(messages) > 1 and str(fault) not in _NOT_ABOUT_AN_ENTRY:
                # Which of them is it?
                middle = len(messages) // 2
                await self._ingest(messages[:middle])
                await self._ingest(messages[middle:])
                return
            await self._check_blame(messages[0], fault)
            await self._refuse(messages[0], [FieldViolation(description=f"the service failed on it: {fault}")])
            return
        self._taken = messages[-1]
        for parcel, result in zip(messages, results, strict=True):
            await self._settle(parcel, result)

    async def _settle(self, parcel: Parcel, result: IngestResult) -> None:
        if outcome := _DONE.get(result.outcome):
            self._metrics.handed_over[outcome].inc()
        elif result.outcome == INGEST_OUTCOME_REJECTED:
            await self._refuse(parcel, result.violations)
        else:
            await self._refuse(parcel, [FieldViolation(description=f"unknown outcome {result.outcome}")])

    async def _refuse(self, parcel: Parcel, reasons: Sequence[FieldViolation]) -> None:
        """Quarantine a message that had its 2xx; nothing waits for what the service will never take."""
        batch = _encode_accepted(parcel, reasons)
        if batch is None:
            self._set_aside(parcel, "it is no message of an integrator that this version knows")
            return
        _log.error("message_quarantined", extra={"fields": [reason.field for reason in reasons]})
        await self._quarantine([parcel], batch)

    async def _quarantine(self, requests: Sequence[Parcel], batch: bytes | None = None) -> None:
        try:
            await self._link.quarantine(batch or b"".join([parcel.entry.payload for parcel in requests]))
        except ServiceFaultError as fault:
            if len(requests) > 1 and str(fault) not in _NOT_ABOUT_AN_ENTRY:
                for parcel in requests:
                    await self._quarantine([parcel])
                return
            await self._check_blame(requests[0], fault)
            self._set_aside(requests[0], str(fault))
            return
        self._metrics.handed_over["quarantined"].inc(len(requests))

    async def _check_blame(self, parcel: Parcel, fault: ServiceFaultError) -> None:
        """Raise `ServiceUnavailableError` while the fault may pass, or be that of the service."""
        if str(fault) in _NOT_ABOUT_AN_ENTRY:
            raise ServiceUnavailableError(str(fault)) from fault
        tries = self._tries[parcel.entry_id] = self._tries.get(parcel.entry_id, 0) + 1
        if tries < _TRIES or not await self._is_to_blame(parcel, tries):
            raise ServiceUnavailableError(str(fault)) from fault

    async def _is_to_blame(self, parcel: Parcel, tries: int) -> bool:
        """Whether the service takes another message while it fails on this entry. That one is handed over again."""
        witnesses = [self._taken] if self._taken else _find_witnesses(self._parcels, parcel)
        if not witnesses:
            return tries >= _TRIES_ALONE
        for witness in witnesses:
            try:
                await self._link.send(FROM_JOURNAL + witness.entry.payload)
            except ServiceFaultError:
                continue
            return True
        return False

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        self._keep_aside(parcel, reason)
        self._metrics.handed_over["kept_aside"].inc()
        _log.error("entry_kept_aside", extra={"entry_id": parcel.entry_id, "reason": reason})


def _find_witnesses(parcels: Sequence[Parcel], suspect: Parcel) -> Sequence[Parcel]:
    """Return some messages that may be handed over before the suspect: each the first of another conversation."""
    first: dict[tuple[str, str] | None, Parcel] = {}
    for parcel in parcels:
        if parcel.entry.kind == EntryKind.MESSAGE:
            first.setdefault(_conversation_of(parcel), parcel)
    own = _conversation_of(suspect) if suspect.entry.kind == EntryKind.MESSAGE else None
    return [parcel for conversation, parcel in first.items() if conversation not in {None, own}][:_MOST_WITNESSES]


def _conversation_of(parcel: Parcel) -> tuple[str, str] | None:
    kept = decode_kept(parcel.entry.payload)
    return (kept.message.channel_config_id, kept.message.sender) if kept else None


def _encode_accepted(parcel: Parcel, reasons: Sequence[FieldViolation]) -> bytes | None:
    """Encode a message that had its 2xx, and that the service refuses, as the request that it was.

    None when that can't be restored.
    """
    kept = decode_kept(parcel.entry.payload)
    translator = TRANSLATORS.get(kept.integrator) if kept else None
    if kept is None or translator is None:
        return None
    quarantined = QuarantinedRequest(
        entry_id=parcel.entry_id,
        channel_config_id=kept.message.channel_config_id,
        integrator=kept.integrator,
        body=urlencode(translator.to_form(kept.message)).encode(),
        reasons=reasons,
        receive_time=kept.message.receive_time,
        is_accepted=True,
    )
    return encode_quarantined(quarantined)
