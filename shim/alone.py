"""The whole shim in one event loop, without a supervisor, which tests and small tools use."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from shim import sockets
from shim.admin import Told, open_private_port
from shim.health import Health
from shim.host import Host
from shim.metrics import JournalMetrics, process_registry
from shim.settings import Settings
from shim.worker import Part, open_worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningShim:
    """Where a shim listens: `host:port` with the real ports."""

    listen: str
    admin_listen: str


@asynccontextmanager
async def open_shim(settings: Settings) -> AsyncIterator[RunningShim]:
    """Run a shim of one worker in this event loop until the context ends; then drain it.

    Raises `StartError` when a port can't be had or the state directory can't be written.
    """
    async with AsyncExitStack() as stack:
        registry = process_registry()
        health = Health()
        public = sockets.bind(settings.listen, flag="--listen")
        stack.callback(sockets.close, public)
        listen = sockets.name(public)
        told = Told(registry, health.find_reasons, refresh=_do_nothing)
        admin_listen = open_private_port(stack, settings.admin_listen, told)
        journal_metrics = JournalMetrics(registry)
        host = Host(stack, settings, journal_metrics)
        health.add(host.find_reasons)
        await stack.enter_async_context(open_worker(Part(settings, 0, public), registry, health, journal_metrics))
        _log.info("listening", extra={"listen": listen, "admin_listen": admin_listen})
        yield RunningShim(listen, admin_listen)
        _log.info("draining")


async def _do_nothing() -> None:
    """Everything is in this process: it is read as it is."""
