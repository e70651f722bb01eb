"""A worker: takes requests on the host's listening sockets, until its supervisor tells it to stop or is gone.

Everything that a request needs is here: the replica, the verifier, the batcher, the journal's own file, the webhook.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from aicc.mo.v1.message_ingest_pb2 import IngestResult
from prometheus_client import CollectorRegistry

from shim import answers
from shim.authorization import Verifier
from shim.batching import Batcher
from shim.certificate import Certificate
from shim.connection_limits import ConnectionLimits
from shim.health import Health, Readiness, Reason
from shim.intake import Intake
from shim.journal import Journal, Marks
from shim.lifetime import keep_running
from shim.link import Link
from shim.metrics import (
    BatchingMetrics,
    JournalMetrics,
    QuarantineMetrics,
    ReplicaMetrics,
    SignatureMetrics,
    UpgradeMetrics,
    VerificationMetrics,
    WebhookMetrics,
)
from shim.password_upgrades import PasswordUpgrades
from shim.password_uses import PasswordUses
from shim.public_url import parse_public_url
from shim.quarantine import Quarantine
from shim.questions import Questions
from shim.replica import Replica
from shim.replica_slot import forget_others, open_replica_store
from shim.secrets_key import SecretsKey
from shim.settings import Settings
from shim.signatures import Signatures
from shim.source_address import TrustedProxies
from shim.state_dir import find_journal
from shim.webhook import WebhookServer

_log = logging.getLogger("shim.worker")

_DRAIN_SECONDS = 5.0
_FINISH_SECONDS = 1.0
_OTHER_FILES = 256
"""Files that are no connections."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker is given by who starts it."""

    settings: Settings
    slot: int
    sockets: Sequence[socket.socket]


@asynccontextmanager
async def open_worker(
    part: Part, registry: CollectorRegistry, health: Health, journal_metrics: JournalMetrics
) -> AsyncIterator[None]:
    """Take requests until the context ends; then answer or journal what is on its way.

    Raises `StartError` when the state directory can't be written.
    """
    async with AsyncExitStack() as stack:
        limits = allow_files(part.settings.connections)
        intake = _open_intake(stack, part, registry, health, journal_metrics)
        metrics = WebhookMetrics(registry, answers.NAMES)
        proxies = TrustedProxies(part.settings.trusted_proxies)
        server = WebhookServer(intake, metrics, limits, proxies, _follow_certificate(stack, part.settings, health))
        keep_running(stack, "sweep", server.sweep())
        stack.push_async_callback(server.drain, _DRAIN_SECONDS)
        server.serve(part.sockets)
        health.is_serving = True
        stack.callback(setattr, health, "is_serving", False)
        yield


def _follow_certificate(
    stack: AsyncExitStack, settings: Settings, health: Health
) -> Callable[[], ssl.SSLContext | None]:
    if settings.certificate is None:
        return lambda: None
    # What callers send in place of a handshake is a line in the log for each of them: not of ours.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    certificate = Certificate(settings.certificate)
    health.add(certificate.find_reasons)
    keep_running(stack, "certificate", certificate.follow())
    return certificate.get_context


def _open_intake(
    stack: AsyncExitStack, part: Part, registry: CollectorRegistry, health: Health, journal_metrics: JournalMetrics
) -> Intake:
    settings = part.settings
    store = open_replica_store(stack.enter_context(ExitStack()), settings.state_dir, part.slot)
    link = Link(settings.service, settings.service_tls)
    stack.push_async_callback(link.close)
    replica_metrics = ReplicaMetrics(registry)
    replica = Replica(
        store,
        link,
        metrics=replica_metrics,
        clock=time.monotonic,
        forget_others=lambda: forget_others(settings.state_dir),
    )
    health.add(lambda: _check_replica(replica))
    keep_running(stack, "follow", replica.follow())
    verifier = _open_verifier(stack, settings, link, registry)
    upgrades = PasswordUpgrades(
        find_wanted=lambda: replica.wanted_hashing,
        verifier=verifier,
        link=link,
        metrics=UpgradeMetrics(registry),
        clock=time.time,
        monotonic_clock=time.monotonic,
    )
    stack.push_async_callback(upgrades.close)
    marks, journal = _open_journal(stack, part, journal_metrics)
    quarantine = Quarantine(link, journal, metrics=QuarantineMetrics(registry))
    stack.callback(quarantine.drain)
    keep_running(stack, "quarantine", quarantine.run())
    batcher = Batcher(link.send, limits=settings.batches, metrics=BatchingMetrics(registry))
    stack.push_async_callback(_finish, batcher)
    return Intake(
        replica=replica,
        questions=Questions(link, replica, metrics=replica_metrics, clock=time.monotonic),
        verifier=verifier,
        batcher=batcher,
        stored_answers=answers.stored_answers(settings.reply),
        journal=journal,
        marks=marks,
        quarantine=quarantine,
        signatures=_open_signatures(stack, settings, link, SignatureMetrics(registry), health),
        upgrades=upgrades,
    )


def _open_verifier(stack: AsyncExitStack, settings: Settings, link: Link, registry: CollectorRegistry) -> Verifier:
    uses = PasswordUses()
    stack.push_async_callback(uses.report, link)
    keep_running(stack, "password_uses", uses.run(link))
    verifier = Verifier(
        limits=settings.verification,
        metrics=VerificationMetrics(registry),
        clock=time.time,
        monotonic_clock=time.monotonic,
        note_use=uses.note,
    )
    stack.callback(verifier.close)
    return verifier


def _open_signatures(
    stack: AsyncExitStack, settings: Settings, link: Link, metrics: SignatureMetrics, health: Health
) -> Signatures:
    bases = [base for url in settings.public_urls for base in parse_public_url(url)]
    key = SecretsKey(settings.secrets_key) if settings.secrets_key else None
    signatures = Signatures(bases=bases, key=key, metrics=metrics)
    health.add(signatures.find_reasons)
    stack.push_async_callback(signatures.report, link)
    keep_running(stack, "signatures", signatures.run(link))
    return signatures


def _open_journal(stack: AsyncExitStack, part: Part, metrics: JournalMetrics) -> tuple[Marks, Journal]:
    folder = find_journal(part.settings)
    marks = Marks(folder)
    stack.callback(marks.close)
    journal = Journal(folder, part.slot, marks, max_bytes=part.settings.max_journal_bytes, metrics=metrics)
    stack.push_async_callback(journal.close)
    return marks, journal


async def _finish(batcher: Batcher[IngestResult]) -> None:
    """Settle what nobody waits for any more: its callers are gone, and it may be stored all the same."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FINISH_SECONDS):
            await batcher.drain()


def _check_replica(replica: Replica) -> Iterable[Reason]:
    if not replica.is_complete:
        detail = "The channel directory was never received. Start the service, or check --service."
        yield Reason(Readiness.NOT_READY, "no_directory", detail)
    elif not replica.is_connected:
        detail = "The service is away: callers are verified by the last known directory. Check --service."
        yield Reason(Readiness.DEGRADED, "directory_not_followed", detail)


def allow_files(limits: ConnectionLimits) -> ConnectionLimits:
    """Let this process have a file for each connection, or fewer connections: accept() would fail again and again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + _OTHER_FILES
    if resource.RLIM_INFINITY not in {soft, hard}:
        allowed = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
        if allowed < wanted:
            fewer = max(1, allowed - _OTHER_FILES)
            _log.warning("connections_limited", extra={"max_connections": fewer, "open_files_allowed": hard})
            return replace(limits, max_connections=fewer)
    return limits
