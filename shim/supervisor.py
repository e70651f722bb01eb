"""The supervisor: holds the listening sockets, keeps the workers, and serves the host's one private port.

In normal operation it is idle: requests never pass through it.
"""

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shim import sockets
from shim.admin import Told, open_private_port
from shim.health import Health
from shim.host import Host
from shim.lifetime import log_lost_exceptions, stop_on_signal
from shim.metrics import JournalMetrics, process_registry
from shim.settings import Settings
from shim.worker_child import WorkerChild
from shim.workers import Workers

_log = logging.getLogger(__name__)


async def supervise(settings: Settings, first: Sequence[WorkerChild]) -> None:
    """Run a shim with its workers until SIGTERM or SIGINT, then drain it; SIGHUP rolls the workers over.

    `first` are the workers that were started already. All have ended when this returns; those that were not needed,
    because it raised before, have not.

    Raises `StartError` when a port can't be had, the state directory can't be written or no worker can serve.
    """
    log_lost_exceptions()
    stopped = asyncio.Event()
    async with AsyncExitStack() as stack:
        public = sockets.open_public_sockets(settings.listen)
        stack.callback(sockets.close, public)
        listen = sockets.name(public)
        registry = process_registry()
        workers = Workers(settings, public, registry, first=first)
        stop_on_signal(stopped, workers.kill_all)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, workers.roll)
        health = Health()
        health.add(workers.find_reasons)
        summed = CollectorRegistry()
        summed.register(workers.sums)
        told = Told(summed, health.find_reasons, refresh=workers.refresh)
        admin_listen = open_private_port(stack, settings.admin_listen, told)
        host = Host(stack, settings, JournalMetrics(registry))
        health.add(host.find_reasons)
        await stack.enter_async_context(workers.serving())
        host.keep_reporting(stack, lambda: workers.count)
        health.is_serving = True
        _log.info("listening", extra={"listen": listen, "admin_listen": admin_listen})
        await stopped.wait()
        _log.info("draining")
        health.is_serving = False
        # New connections are refused from now on, unless systemd holds the sockets: then its next shim takes them.
        sockets.close(public)
    _log.info("stopped")
