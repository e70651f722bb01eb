"""The public port: accepts connections, hangs up on who is too slow, and drains.

One sweep a second replaces two timers a request.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NoReturn

from tornado.netutil import add_accept_handler

from shim.connection import Connection
from shim.connection_limits import ConnectionLimits
from shim.exchange import Port
from shim.intake import Intake
from shim.lifetime import log_death
from shim.metrics import WebhookMetrics
from shim.source_address import TrustedProxies
from shim.streams import open_stream


class WebhookServer:
    """Serves webhooks on listening sockets, which other processes may listen on too."""

    GRACE_SECONDS = 1.0
    """How long a connection that is idle when the drain begins is left for its next request, which is answered with
    `Connection: close`. Longer than the pauses of a caller who is busy: only who is really idle is hung up on."""

    def __init__(
        self,
        intake: Intake,
        metrics: WebhookMetrics,
        limits: ConnectionLimits,
        trusted_proxies: TrustedProxies,
        get_tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Nothing is accepted yet. `get_tls` is asked anew for each connection."""
        self._limits = limits
        self._metrics = metrics
        self._get_tls = get_tls
        self._port = Port(intake, metrics, limits, trusted_proxies, asyncio.get_running_loop())
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._all_closed = asyncio.Event()
        self._sockets: Sequence[socket.socket] = ()
        self._stop_accepting: list[Callable[[], None]] = []
        metrics.connections.set_function(lambda: len(self._connections))
        metrics.body_bytes.set_function(lambda: self._port.body_bytes)

    def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections from now on."""
        self._sockets = sockets
        self._accept()

    def _accept(self) -> None:
        self._stop_accepting = [add_accept_handler(each, self._serve_connection) for each in self._sockets]

    def _pause(self) -> None:
        for stop in self._stop_accepting:
            stop()
        self._stop_accepting = []

    def _serve_connection(self, accepted: socket.socket, _: object) -> None:
        stream = open_stream(accepted, self._get_tls())
        if stream is None:
            return
        connection = Connection(self._port, stream)
        task = self._connections[connection] = self._port.loop.create_task(connection.serve())
        task.add_done_callback(log_death)
        task.add_done_callback(lambda _: self._forget(connection))
        if len(self._connections) >= self._limits.max_connections:
            self._pause()
            self._metrics.pauses.inc()

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection]
        if not self._connections:
            self._all_closed.set()
        if not self._stop_accepting and not self._port.is_draining:
            self._accept()

    async def sweep(self) -> NoReturn:
        """Close what is too slow, for ever."""
        while True:
            await asyncio.sleep(1)
            now = self._port.loop.time()
            is_crowded = len(self._connections) > self._limits.max_connections // 2
            for connection in [*self._connections]:
                if connection.is_late(now, is_crowded=is_crowded):
                    self._metrics.timeouts.inc()
                    connection.stream.close()

    async def drain(self, seconds: float) -> None:
        """Take no more connections, answer what is on its way, and close every connection, within that time."""
        self._port.is_draining = True
        self._pause()
        for each in self._sockets:
            each.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._close_gradually()
        for task in [*self._connections.values()]:
            task.cancel()
        await self._wait_until_all_closed()

    async def _close_gradually(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.GRACE_SECONDS):
                await self._wait_until_all_closed()
        # What has arrived meanwhile is answered: a request that was sent must not meet a closed door.
        for connection in [*self._connections]:
            if connection.is_idle and _is_silent(connection.stream.socket):
                connection.stream.close()
        await self._wait_until_all_closed()

    async def _wait_until_all_closed(self) -> None:
        if self._connections:
            self._all_closed.clear()
            await self._all_closed.wait()


def _is_silent(connection: socket.socket) -> bool:
    """Whether there is nothing to read, below TLS too."""
    try:
        return not socket.socket.recv(connection, 1, socket.MSG_PEEK)
    except OSError:  # nothing yet, or a connection that is broken
        return True
