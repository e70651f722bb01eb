"""`mo-shim`: puts the parts together, and takes them apart in reverse order."""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from aicc.mo.v1.message_ingest_pb2 import IngestResult
from prometheus_client import CollectorRegistry
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from shim import answers, logs
from shim.admin import admin_application
from shim.authorization import Verifier
from shim.batching import Batcher
from shim.errors import StartError
from shim.health import Health, Readiness, Reason
from shim.intake import Intake
from shim.link import Link
from shim.metrics import BatchingMetrics, ReplicaMetrics, VerificationMetrics, WebhookMetrics, process_registry
from shim.questions import Questions
from shim.replica import Replica
from shim.replica_store import ReplicaStore
from shim.settings import Address, Settings, command
from shim.webhook import WebhookServer

_log = logging.getLogger("shim")

_DRAIN_SECONDS = 5.0
_BACKLOG = 1_024
_MAX_ADMIN_BODY_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class RunningShim:
    """Where a shim listens: `host:port` with the real ports."""

    listen: str
    admin_listen: str


@asynccontextmanager
async def open_shim(settings: Settings) -> AsyncIterator[RunningShim]:
    """Run a shim until the context ends; then drain it.

    Raises `StartError` when a port can't be had or the state directory can't be written.
    """
    async with AsyncExitStack() as stack:
        registry = process_registry()
        health = Health()
        sockets = _bind(settings.listen, flag="--listen")
        stack.callback(_close, sockets)
        admin_listen = _open_private_port(stack, settings, registry, health)
        intake = _open_intake(stack, settings, registry, health)
        server = WebhookServer(intake, WebhookMetrics(registry, answers.NAMES))
        server.add_sockets(sockets)
        _keep_running(stack, "sweep", server.sweep())
        stack.push_async_callback(server.drain, _DRAIN_SECONDS)
        health.is_serving = True
        stack.callback(setattr, health, "is_serving", False)
        running = RunningShim(listen=_name(sockets), admin_listen=admin_listen)
        _log.info("listening", extra={"listen": running.listen, "admin_listen": running.admin_listen})
        yield running
        _log.info("draining")


def _open_private_port(stack: AsyncExitStack, settings: Settings, registry: CollectorRegistry, health: Health) -> str:
    sockets = _bind(settings.admin_listen, flag="--admin-listen")
    server = HTTPServer(admin_application(registry, health), max_body_size=_MAX_ADMIN_BODY_BYTES)
    server.add_sockets(sockets)
    stack.push_async_callback(_stop, server)
    return _name(sockets)


def _open_intake(stack: AsyncExitStack, settings: Settings, registry: CollectorRegistry, health: Health) -> Intake:
    store = ReplicaStore(settings.state_dir)
    stack.callback(store.close)
    link = Link(settings.service)
    stack.push_async_callback(link.close)
    replica_metrics = ReplicaMetrics(registry)
    replica = Replica(store, link, metrics=replica_metrics, clock=time.monotonic)
    health.add(partial(_check_replica, replica))
    _keep_running(stack, "follow", replica.follow())
    verifier = Verifier(limits=settings.verification, metrics=VerificationMetrics(registry), clock=time.time)
    stack.callback(verifier.close)
    batcher = Batcher(link.send, limits=settings.batches, metrics=BatchingMetrics(registry))
    health.add(partial(_check_batches, batcher))
    return Intake(
        replica=replica,
        questions=Questions(link, replica, metrics=replica_metrics, clock=time.monotonic),
        verifier=verifier,
        batcher=batcher,
        stored_answers=answers.stored_answers(settings.reply),
    )


def main() -> None:
    """Run the shim by its flags and variables."""
    command(_run, name="mo-shim")()


def _run(settings: Settings) -> None:
    logs.configure(settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except StartError as error:
        sys.exit(f"mo-shim: {error}")


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_lost_exception)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_on_signal, stopped)
    async with open_shim(settings):
        await stopped.wait()
    _log.info("stopped")


def _stop_on_signal(stopped: asyncio.Event) -> None:
    stopped.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The second signal ends the process at once.
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _log_lost_exception(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    _log.error(
        "exception_lost",
        extra={"where": context["message"]},
        exc_info=error if isinstance(error, BaseException) else None,
    )


def _bind(address: Address, *, flag: str) -> list[socket.socket]:
    try:
        return bind_sockets(address.port, address.host, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"can't listen on {address}: {error.strerror or error}; "
            f"stop what uses it, or choose another address with {flag}"
        ) from error


def _name(sockets: list[socket.socket]) -> str:
    host, port, *_ = sockets[0].getsockname()
    return str(Address(host, port))


def _check_replica(replica: Replica) -> Reason | None:
    if not replica.is_complete:
        detail = "The channel directory was never received. Start the service, or check --service."
        return Reason(Readiness.NOT_READY, "no_directory", detail)
    if not replica.is_connected:
        detail = "The service is away: callers are verified by the last known directory. Check --service."
        return Reason(Readiness.DEGRADED, "directory_not_followed", detail)
    return None


def _check_batches(batcher: Batcher[IngestResult]) -> Reason | None:
    failure = batcher.recent_failure
    if failure is None:
        return None
    detail = f"The last batch failed ({failure}): callers get 503. Look at the service."
    return Reason(Readiness.DEGRADED, "messages_not_stored", detail)


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


async def _stop(server: HTTPServer) -> None:
    server.stop()
    await server.close_all_connections()


def _keep_running(stack: AsyncExitStack, name: str, work: Coroutine[Any, Any, NoReturn]) -> None:
    """Do work that has no end, until the stack unwinds."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_death)
    stack.push_async_callback(_cancel, task)


def _log_death(task: "asyncio.Task[object]") -> None:
    # The rest goes on: callers are verified by the last known directory, and readiness says so.
    if not task.cancelled() and (error := task.exception()):
        _log.error("task_died", extra={"task": task.get_name()}, exc_info=error)


async def _cancel(task: "asyncio.Task[object]") -> None:
    task.cancel()
    await asyncio.wait([task])


if __name__ == "__main__":
    main()
