"""What becomes of a complete request, from its credentials to the answer.

The usual case, a caller verified before, runs to the batch without a task or a future of its own. Only whoever must
be verified first gets a task. Every request is answered exactly once: a fault of ours is a 5xx and a line in the log.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple

from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ACCEPTED,
    INGEST_OUTCOME_DUPLICATE,
    INGEST_OUTCOME_ERASED,
    INGEST_OUTCOME_HELD,
    INGEST_OUTCOME_REJECTED,
    IngestBatchRequest,
    IngestResult,
)

from shim import answers
from shim.answers import Answer
from shim.authorization import Verifier
from shim.batching import Batcher, Failure
from shim.channel import Channel
from shim.credentials import Credentials
from shim.errors import GuessLimitError, OverloadError
from shim.journal import EntryKind, Journal, JournalError, JournalFullError, Marks
from shim.journal.payload import encode_kept
from shim.password_upgrades import PasswordUpgrades
from shim.quarantine import Quarantine, RefusedRequest
from shim.questions import Questions
from shim.replica import Replica
from shim.request_head import WebhookHead
from shim.signature import SIGNATURE_HEADER, SignatureCheck, SignedRequest, Verdict
from shim.signatures import Signatures
from shim.translation import TRANSLATORS
from shim.translation.forms import Form, FormError, Violation, parse_form

_log = logging.getLogger(__name__)

_OUTCOMES = {
    INGEST_OUTCOME_ACCEPTED: "accepted",
    INGEST_OUTCOME_DUPLICATE: "duplicate",
    INGEST_OUTCOME_HELD: "held",
    INGEST_OUTCOME_ERASED: "erased",
}


class WebhookRequest(NamedTuple):
    """A request for a webhook, complete and with well-formed credentials."""

    integrator: str
    channel_config_id: str
    credentials: Credentials
    body: bytes
    received_at_ns: int
    get_headers: Callable[[], Iterable[tuple[str, str]]] = tuple
    """Called only when the request is signed or quarantined."""
    find_source: Callable[[], str | None] = lambda: None
    """Called only when the caller must be verified: the address that the request came from, if that is known."""
    target: str = ""
    """Path and query, as received: part of what is signed."""


Respond = Callable[[Answer], None]


class Intake:
    """Decides what a request is answered with, and sees that a message is stored first."""

    def __init__(
        self,
        *,
        replica: Replica,
        questions: Questions,
        verifier: Verifier,
        batcher: Batcher[IngestResult],
        stored_answers: Mapping[str, Answer],
        journal: Journal,
        marks: Marks,
        quarantine: Quarantine,
        signatures: Signatures,
        upgrades: PasswordUpgrades,
    ) -> None:
        self._replica = replica
        self._questions = questions
        self._verifier = verifier
        self._batcher = batcher
        self._stored_answers = stored_answers
        self._journal = journal
        self._marks = marks
        self._quarantine = quarantine
        self._signatures = signatures
        self._upgrades = upgrades
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, request: WebhookRequest, respond: Respond) -> None:
        """Take a request in. `respond` is called once, now or later."""
        with _Answering(respond):
            channel = self._replica.find(request.channel_config_id, request.integrator)
            if channel is not None and self._verifier.is_remembered(channel, request.credentials):
                self._take_verified(request, channel, respond)
                return
            task = asyncio.get_running_loop().create_task(self._take_unverified(request, respond))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def is_known(self, head: WebhookHead) -> bool:
        """Whether the caller was verified before, so that its message goes straight to the batch."""
        channel = self._replica.find(head.channel_config_id, head.integrator)
        return channel is not None and self._verifier.is_remembered(channel, head.credentials)

    async def _take_unverified(self, request: WebhookRequest, respond: Respond) -> None:
        with _Answering(respond):
            if not self._replica.is_complete:
                respond(answers.UNREADY)
                return
            try:
                channel = await self._verify(request)
            except GuessLimitError:
                respond(answers.VERIFICATION_LIMITED)
                return
            except OverloadError:
                respond(answers.VERIFICATION_OVERLOADED)
                return
            if channel is None:
                respond(answers.BAD_CREDENTIALS)
                return
            self._take_verified(request, channel, respond)

    async def _verify(self, request: WebhookRequest) -> Channel | None:
        """Return the channel that the caller may speak for. Never None before the service was asked, if it can be."""
        channel_config_id, credentials, source = request.channel_config_id, request.credentials, request.find_source()
        copy = self._replica.find(channel_config_id, request.integrator)
        if await self._verifier.verify(channel_config_id, copy, credentials, source):
            return copy
        await self._questions.ask(channel_config_id)
        current = self._replica.find(channel_config_id, request.integrator)
        if current is None or (copy and copy.credential_revision == current.credential_revision):
            return None
        return current if await self._verifier.verify(channel_config_id, current, credentials, source) else None

    def _take_verified(self, request: WebhookRequest, channel: Channel, respond: Respond) -> None:
        self._upgrades.consider(channel, request.credentials)
        if not channel.is_enabled:
            respond(answers.DISABLED)
            return
        form = _read_form(request.body)
        if channel.signature_check is not SignatureCheck.OFF and (fault := self._check(request, channel, form)):
            self._turn_away(request, fault, respond)
        elif isinstance(form, FormError):
            self._refuse(request, form, respond)
        else:
            self._take_form(request, channel, form, respond)

    def _check(self, request: WebhookRequest, channel: Channel, form: Form | FormError) -> Verdict | None:
        known = None if isinstance(form, FormError) else form
        return self._signatures.find_fault(channel, SignedRequest(request.target, request.get_headers(), known))

    def _take_form(self, request: WebhookRequest, channel: Channel, form: Form, respond: Respond) -> None:
        translator = TRANSLATORS[request.integrator]
        if translator.is_status_callback(form):
            respond(answers.STATUS_CALLBACK)
            return
        batch = IngestBatchRequest()
        try:
            translator.to_message(
                form,
                channel.channel_config_id,
                request.received_at_ns,
                channel.infer_message_type,
                batch.messages.add,
            )
        except FormError as error:
            self._refuse(request, error, respond)
            return
        self._store(request, batch.SerializeToString(), respond)

    def _store(self, request: WebhookRequest, message: bytes, respond: Respond) -> None:
        """Have a message stored: encoded as a batch of one, since such batches joined are the batch of all."""
        # While anything waits in the journal, everything follows it there: so nothing overtakes.
        if self._marks.is_empty():
            try:
                self._batcher.put(message, partial(self._settle, request, message, respond))
            except OverloadError:
                pass
            else:
                return
        self._keep(request, message, respond)

    def _keep(self, request: WebhookRequest, message: bytes, respond: Respond) -> None:
        payload = encode_kept(message, request.integrator)
        try:
            self._journal.append(EntryKind.MESSAGE, payload, partial(self._settle_kept, respond))
        except JournalFullError:
            respond(answers.OVERLOADED)
        except JournalError:
            respond(answers.UNAVAILABLE)

    def _settle_kept(self, respond: Respond, error: JournalError | None) -> None:
        with _Answering(respond):
            respond(answers.UNAVAILABLE if error else self._stored_answers["journalled"])

    def _turn_away(self, request: WebhookRequest, fault: Verdict, respond: Respond) -> None:
        """Refuse a request whose signature is wrong; one that can't be checked is none of the caller's fault."""
        if fault is Verdict.UNCHECKABLE:
            respond(answers.SIGNATURE_UNCHECKABLE)
            return
        self._put_aside(request, [Violation(SIGNATURE_HEADER, fault.explanation)])
        respond(answers.SIGNATURE_REFUSED)

    def _refuse(self, request: WebhookRequest, error: FormError, respond: Respond) -> None:
        self._put_aside(request, error.violations or [Violation("", error.detail)])
        respond(answers.invalid(error.detail, error.violations))

    def _put_aside(self, request: WebhookRequest, reasons: Sequence[Violation]) -> None:
        self._quarantine.keep(
            RefusedRequest(
                integrator=request.integrator,
                channel_config_id=request.channel_config_id,
                headers=tuple(request.get_headers()),
                body=request.body,
                received_at_ns=request.received_at_ns,
                reasons=reasons,
            )
        )

    def _settle(
        self, request: WebhookRequest, message: bytes, respond: Respond, result: IngestResult | Failure
    ) -> None:
        with _Answering(respond):
            if not isinstance(result, IngestResult):
                self._keep(request, message, respond)
            elif error := _find_fault(request, result):
                self._refuse(request, error, respond)
            else:
                respond(self._find_answer(result))

    def _find_answer(self, result: IngestResult) -> Answer:
        if name := _OUTCOMES.get(result.outcome):
            return self._stored_answers[name]
        if result.outcome != INGEST_OUTCOME_REJECTED:
            _log.error("unknown_outcome", extra={"outcome": result.outcome})
            return answers.SERVICE_FAULT
        # The channel never existed: the replica was of another directory.
        return answers.BAD_CREDENTIALS


def _read_form(body: bytes) -> Form | FormError:
    try:
        return parse_form(body)
    except FormError as error:
        return error


def _find_fault(request: WebhookRequest, result: IngestResult) -> FormError | None:
    """Return what the service finds wrong with a message of a channel that exists."""
    if result.outcome != INGEST_OUTCOME_REJECTED:
        return None
    if any(violation.field == "channel_config_id" for violation in result.violations):
        return None
    names = TRANSLATORS[request.integrator].parameter_names
    return FormError(
        "The form is no valid MO message.",
        [
            Violation(names.get(violation.field, violation.field), violation.description)
            for violation in result.violations
        ],
    )


class _Answering:
    """Sees that a request is answered whatever happens: an exception that nobody expected becomes a 500."""

    __slots__ = ("_respond",)

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        _log.error("request_failed", exc_info=error)
        self._respond(answers.INTERNAL_ERROR)
        return True
