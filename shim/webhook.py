"""The public port: reads requests and writes answers; what they are is decided in `request_head` and `intake`.

Tornado's `HTTPMessageDelegate` and not a `RequestHandler`, which costs a third more CPU a request. For the same
reason answers are encoded once, and one sweep a second replaces two timers a request.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from shim.answers import OVERLOADED, TOO_LARGE, Answer
from shim.intake import Intake, WebhookRequest
from shim.metrics import WebhookMetrics
from shim.request_head import MAX_DISCARDED_BYTES, WebhookHead, check_size, read_head

_MAX_HEADER_BYTES = 16 * 1024
_MAX_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The bounds of a `WebhookServer`."""

    max_connections: int = 10_000
    """Past it no more are accepted: they wait in the kernel, or another worker takes them."""
    max_body_bytes: int = 64 * 2**20
    """The bytes of requests that are not answered yet. A body past it is answered with 503."""


class WebhookServer(httputil.HTTPServerConnectionDelegate):
    """Serves webhooks on listening sockets, which other processes may listen on too."""

    IDLE_SECONDS = 75.0
    """How long a connection may wait for the (next) head."""
    BODY_SECONDS = 10.0
    """How long a body may take."""
    GRACE_SECONDS = 1.0
    """How long a connection that is idle when the drain begins is left for its next request, which is answered with
    `Connection: close`. Longer than the pauses of a caller who is busy: only who is really idle is hung up on."""

    def __init__(self, intake: Intake, metrics: WebhookMetrics, limits: ConnectionLimits) -> None:
        self.intake = intake
        self.metrics = metrics
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.is_draining = False
        self.body_bytes = 0
        # Time-outs are `sweep`'s, and the bound on bodies is the exchange's, which answers it.
        self._parameters = HTTP1ConnectionParameters(max_header_size=_MAX_HEADER_BYTES, max_body_size=2**62)
        self._exchanges: dict[HTTP1ServerConnection, _Exchange | None] = {}
        self._all_closed = asyncio.Event()
        self._sockets: Sequence[socket.socket] = ()
        self._stop_accepting: list[Callable[[], None]] = []
        metrics.connections.set_function(lambda: len(self._exchanges))
        metrics.body_bytes.set_function(lambda: self.body_bytes)

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
        connection = HTTP1ServerConnection(IOStream(accepted, max_buffer_size=_MAX_BUFFER_BYTES), self._parameters)
        self._exchanges[connection] = None
        connection.start_serving(self)
        if len(self._exchanges) >= self.limits.max_connections:
            self._pause()
            self.metrics.pauses.inc()

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> "_Exchange":
        """Wait for the next request of a connection."""
        exchange = _Exchange(self, cast(HTTP1Connection, request_conn))
        self._exchanges[cast(HTTP1ServerConnection, server_conn)] = exchange
        return exchange

    def on_close(self, server_conn: object) -> None:
        """Forget a connection."""
        del self._exchanges[cast(HTTP1ServerConnection, server_conn)]
        if not self._exchanges:
            self._all_closed.set()
        if not self._stop_accepting and not self.is_draining:
            self._accept()

    async def sweep(self) -> NoReturn:
        """Close what is too slow, for ever."""
        while True:
            await asyncio.sleep(1)
            now = self.loop.time()
            for connection, exchange in list(self._exchanges.items()):
                if exchange and exchange.deadline and exchange.deadline < now:
                    self.metrics.timeouts.inc()
                    await connection.close()

    async def drain(self, seconds: float) -> None:
        """Take no more connections, answer what is on its way, and close every connection, within that time."""
        self.is_draining = True
        self._pause()
        for each in self._sockets:
            each.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._close_gradually()
        await self._close([*self._exchanges])

    async def _close_gradually(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.GRACE_SECONDS):
                await self._wait_until_all_closed()
        idle = [c for c, exchange in self._exchanges.items() if exchange is None or exchange.is_idle]
        # What has arrived meanwhile is answered: a request that was sent must not meet a closed door.
        await self._close([connection for connection in idle if _is_silent(connection.stream.socket)])
        await self._wait_until_all_closed()

    async def _wait_until_all_closed(self) -> None:
        if self._exchanges:
            self._all_closed.clear()
            await self._all_closed.wait()

    async def _close(self, connections: list[HTTP1ServerConnection]) -> None:
        for connection in connections:
            await connection.close()


class _Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer."""

    def __init__(self, server: WebhookServer, connection: HTTP1Connection) -> None:
        self._server = server
        self._connection = connection
        self.is_idle = True
        self._held = 0
        self.deadline: float | None = server.loop.time() + server.IDLE_SECONDS

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        """Decide by the head whether the body is wanted."""
        method, path, version = cast(httputil.RequestStartLine, start_line)
        self.is_idle = False
        self.deadline = self._server.loop.time() + self._server.BODY_SECONDS
        self._is_head_only = method == "HEAD"
        self._connection_header = _choose_connection_header(version, headers.get_list("Connection"))
        self._body: list[bytes] = []
        self._size = 0
        self._headers = headers
        self._head = read_head(method, path, headers.get_list)
        length = headers.get("Content-Length", "")
        if length.isdecimal():  # else Tornado refuses it
            self._expect(int(length) if len(length) < 19 else sys.maxsize)

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of a wanted body, and drop one of another."""
        self._size += len(chunk)
        self._expect(self._size)
        if isinstance(self._head, WebhookHead):
            self._hold(chunk)

    def finish(self) -> None:
        """Answer now, or have the request taken in."""
        self.deadline = None
        head = self._head
        if isinstance(head, Answer):
            self._respond(head)
            return
        self._received_at = self._server.loop.time()
        request = WebhookRequest(
            head.integrator,
            head.channel_config_id,
            head.credentials,
            b"".join(self._body),
            time.time_ns(),
            self._headers.get_all,
        )
        self._body = []
        self._server.intake.take(request, self._respond_to_message)

    def on_connection_close(self) -> None:
        """Forget a request that the caller didn't finish."""
        if self.deadline is not None:
            self._drop_body()

    def _hold(self, chunk: bytes) -> None:
        """Keep a piece of the body until the request is answered, if there is room."""
        server = self._server
        if server.body_bytes + len(chunk) > server.limits.max_body_bytes:
            self._head = OVERLOADED
            self._drop_body()
            return
        self._body.append(chunk)
        self._held += len(chunk)
        server.body_bytes += len(chunk)

    def _drop_body(self) -> None:
        self._body = []
        self._server.body_bytes -= self._held
        self._held = 0

    def _expect(self, size: int) -> None:
        """Refuse a body that has or will have that size, if it is too large; at once, if it is far too large."""
        self._head = check_size(self._head, size)
        if isinstance(self._head, Answer):
            self._drop_body()
            if size > MAX_DISCARDED_BYTES:
                self._respond(self._head, is_last=True)

    def _respond_to_message(self, answer: Answer) -> None:
        self._server.metrics.seconds.observe(self._server.loop.time() - self._received_at)
        self._respond(answer)

    def _respond(self, answer: Answer, *, is_last: bool = False) -> None:
        connection = self._connection
        self._drop_body()
        self._server.metrics.answered[answer.name]()
        if connection.stream.closed():
            self._server.metrics.callers_gone.inc()
            return
        is_last = is_last or answer is TOO_LARGE or self._server.is_draining
        header = "close" if is_last else self._connection_header
        if self._is_head_only:
            response = answer.encode(header, has_body=False)
        elif header is None:
            response = answer.open
        else:
            response = answer.closing if header == "close" else answer.encode(header)
        # As a block that is encoded already: write_headers() would encode and check it anew each time, for 4 % of all
        # CPU. Tornado allows this and advises against it; the tests of the public port would notice its end.
        written = connection.write(response)
        connection.finish()
        if is_last:
            written.add_done_callback(lambda _: connection.close())


def _is_silent(connection: socket.socket) -> bool:
    """Whether there is nothing to read."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:  # nothing yet, or a connection that is broken
        return True


def _choose_connection_header(version: str, connection: list[str]) -> str | None:
    """Say what becomes of the connection after the answer, as Tornado will do it."""
    if version == "HTTP/1.1" and not connection:
        return None
    wish = ",".join(connection).lower()
    if version == "HTTP/1.1":
        return "close" if wish == "close" else None
    return "keep-alive" if wish == "keep-alive" else "close"
