"""The public port: reads requests and writes answers; what they are is decided in `request_head` and `intake`.

Tornado's `HTTPMessageDelegate` and not a `RequestHandler`, which costs a third more CPU a request. For the same
reason answers are encoded once, and one sweep a second replaces two timers a request.
"""

import asyncio
import contextlib
import sys
import time
from typing import NoReturn, cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.iostream import IOStream
from tornado.tcpserver import TCPServer

from shim.answers import TOO_LARGE, Answer
from shim.intake import Intake, WebhookRequest
from shim.metrics import WebhookMetrics
from shim.request_head import MAX_DISCARDED_BYTES, WebhookHead, check_size, read_head

_MAX_HEADER_BYTES = 16 * 1024
_MAX_BUFFER_BYTES = 1024 * 1024


class WebhookServer(TCPServer, httputil.HTTPServerConnectionDelegate):
    """Serves webhooks on the sockets that are added to it."""

    IDLE_SECONDS = 75.0
    """How long a connection may wait for the (next) head."""
    BODY_SECONDS = 10.0
    """How long a body may take."""
    GRACE_SECONDS = 0.5
    """How long a connection that is idle when the drain begins is left for a request that is on its way."""

    def __init__(self, intake: Intake, metrics: WebhookMetrics) -> None:
        super().__init__(max_buffer_size=_MAX_BUFFER_BYTES)
        self.intake = intake
        self.metrics = metrics
        self.loop = asyncio.get_running_loop()
        self.is_draining = False
        # Time-outs are `sweep`'s, and the bound on bodies is the exchange's, which answers it.
        self._parameters = HTTP1ConnectionParameters(max_header_size=_MAX_HEADER_BYTES, max_body_size=2**62)
        self._exchanges: dict[HTTP1ServerConnection, _Exchange | None] = {}
        self._all_closed = asyncio.Event()
        metrics.connections.set_function(lambda: len(self._exchanges))

    def handle_stream(self, stream: IOStream, address: object) -> None:
        """Serve a connection."""
        connection = HTTP1ServerConnection(stream, self._parameters)
        self._exchanges[connection] = None
        connection.start_serving(self)

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
        self.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._close_gradually()
        await self._close([*self._exchanges])

    async def _close_gradually(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.GRACE_SECONDS):
                await self._wait_until_all_closed()
        await self._close([c for c, exchange in self._exchanges.items() if exchange is None or exchange.is_idle])
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
        self._head = read_head(method, path, headers.get_list)
        length = headers.get("Content-Length", "")
        if length.isdecimal():  # else Tornado refuses it
            self._expect(int(length) if len(length) < 19 else sys.maxsize)

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of a wanted body, and drop one of another."""
        self._size += len(chunk)
        self._expect(self._size)
        if isinstance(self._head, WebhookHead):
            self._body.append(chunk)

    def finish(self) -> None:
        """Answer now, or have the request taken in."""
        self.deadline = None
        head = self._head
        if isinstance(head, Answer):
            self._respond(head)
            return
        self._received_at = self._server.loop.time()
        request = WebhookRequest(
            head.integrator, head.channel_config_id, head.credentials, b"".join(self._body), time.time_ns()
        )
        self._body = []
        self._server.intake.take(request, self._respond_to_message)

    def on_connection_close(self) -> None:
        """Forget a request that the caller didn't finish."""
        self._body = []

    def _expect(self, size: int) -> None:
        """Refuse a body that has or will have that size, if it is too large; at once, if it is far too large."""
        self._head = check_size(self._head, size)
        if isinstance(self._head, Answer):
            self._body = []
            if size > MAX_DISCARDED_BYTES:
                self._respond(self._head, is_last=True)

    def _respond_to_message(self, answer: Answer) -> None:
        self._server.metrics.seconds.observe(self._server.loop.time() - self._received_at)
        self._respond(answer)

    def _respond(self, answer: Answer, *, is_last: bool = False) -> None:
        connection = self._connection
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


def _choose_connection_header(version: str, connection: list[str]) -> str | None:
    """Say what becomes of the connection after the answer, as Tornado will do it."""
    if version == "HTTP/1.1" and not connection:
        return None
    wish = ",".join(connection).lower()
    if version == "HTTP/1.1":
        return "close" if wish == "close" else None
    return "keep-alive" if wish == "keep-alive" else "close"
