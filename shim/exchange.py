"""One request on the public port and its answer: how both are read and written, and how long that may take.

What the answer is, is decided in `request_head` and `intake`.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection

from shim.answers import OVERLOADED, TOO_LARGE, Answer
from shim.connection_limits import ConnectionLimits
from shim.intake import Intake, WebhookRequest
from shim.metrics import WebhookMetrics
from shim.request_head import MAX_DISCARDED_BYTES, WebhookHead, check_size, is_unambiguous, read_head
from shim.source_address import TrustedProxies
from shim.streams import PublicStream

_CROWDED_SECONDS = 2.0
"""How long a connection on which nobody was let in yet may wait for a head while half of all that may be are open."""


@dataclass(slots=True)
class Port:
    """What all exchanges of a port share."""

    intake: Intake
    metrics: WebhookMetrics
    limits: ConnectionLimits
    trusted_proxies: TrustedProxies
    loop: asyncio.AbstractEventLoop
    is_draining: bool = False
    body_bytes: int = 0
    """Of requests that are not answered yet."""


class Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer."""

    def __init__(self, port: Port, connection: HTTP1Connection) -> None:
        self._port = port
        self._connection = connection
        self._stream = stream = cast(PublicStream, connection.stream)
        self.is_idle = True
        """Whether its head is still to come."""
        self._begun_at = port.loop.time()
        limits = port.limits
        self._deadline: float | None = self._begun_at + (limits.head_seconds if stream.is_new else limits.idle_seconds)
        self._heard_before: int | None = stream.heard_bytes
        self._held = 0

    def is_late(self, now: float, *, is_crowded: bool) -> bool:
        """Whether the caller has taken too long to send the head, to send the body, or to read the answer."""
        if self.is_idle and self._deadline is not None:
            if self._heard_before is not None and self._stream.heard_bytes > self._heard_before:
                self._heard_before = None
                self._deadline = min(self._deadline, now + self._port.limits.head_seconds)
            if is_crowded and not self._stream.was_accepted and now - self._begun_at > _CROWDED_SECONDS:
                return True
        return self._deadline is not None and self._deadline < now

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        """Decide by the head whether the body is wanted."""
        method, path, version = cast(httputil.RequestStartLine, start_line)
        self.is_idle = self._stream.is_new = False
        self._deadline = self._port.loop.time() + self._port.limits.body_seconds
        if not is_unambiguous(version, headers.get_list):
            raise httputil.HTTPInputError("framed in a way that is read in more than one")
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
            self._hold(chunk, self._head)

    def finish(self) -> None:
        """Answer now, or have the request taken in."""
        self._deadline = None
        head = self._head
        if isinstance(head, Answer):
            self._respond(head)
            return
        self._received_at = self._port.loop.time()
        request = WebhookRequest(
            head.integrator,
            head.channel_config_id,
            head.credentials,
            b"".join(self._body),
            time.time_ns(),
            self._headers.get_all,
            self._find_source,
            head.target,
        )
        self._body = []
        self._port.intake.take(request, self._respond_to_message)

    def on_connection_close(self) -> None:
        """Forget a request that the caller didn't finish."""
        self._drop_body()

    def _find_source(self) -> str | None:
        return self._port.trusted_proxies.find_source(self._stream.peer, self._headers.get_list("X-Forwarded-For"))

    def _hold(self, chunk: bytes, head: WebhookHead) -> None:
        """Keep a piece of the body until the request is answered, if there is room."""
        port = self._port
        wanted, allowed = port.body_bytes + len(chunk), port.limits.max_body_bytes
        if wanted > allowed or (wanted > allowed // 2 and not port.intake.is_known(head)):
            self._head = OVERLOADED
            self._drop_body()
            return
        self._body.append(chunk)
        self._held += len(chunk)
        port.body_bytes = wanted

    def _drop_body(self) -> None:
        self._body = []
        self._port.body_bytes -= self._held
        self._held = 0

    def _expect(self, size: int) -> None:
        """Refuse a body that has or will have that size, if it is too large; at once, if it is far too large."""
        self._head = check_size(self._head, size)
        if isinstance(self._head, Answer):
            self._drop_body()
            if size > MAX_DISCARDED_BYTES:
                self._respond(self._head, is_last=True)

    def _respond_to_message(self, answer: Answer) -> None:
        if answer.is_delayed:
            self._drop_body()
            self._port.loop.call_later(self._port.limits.delay_seconds, self._respond, answer)
            return
        self._port.metrics.seconds.observe(self._port.loop.time() - self._received_at)
        self._stream.was_accepted |= answer.status < 300
        self._respond(answer)

    def _respond(self, answer: Answer, *, is_last: bool = False) -> None:
        connection, port = self._connection, self._port
        self._drop_body()
        port.metrics.answered[answer.name]()
        if connection.stream.closed():
            port.metrics.callers_gone.inc()
            return
        is_last = is_last or answer is TOO_LARGE or port.is_draining
        self._deadline = port.loop.time() + port.limits.body_seconds
        # As a block that is encoded already: write_headers() would encode and check it anew each time, for 4 % of all
        # CPU. Tornado allows this and advises against it; the tests of the public port would notice its end.
        written = connection.write(self._encode(answer, "close" if is_last else self._connection_header))
        connection.finish()
        if is_last:
            written.add_done_callback(lambda _: connection.close())

    def _encode(self, answer: Answer, connection_header: str | None) -> bytes:
        if self._is_head_only:
            return answer.encode(connection_header, has_body=False)
        if connection_header is None:
            return answer.open
        return answer.closing if connection_header == "close" else answer.encode(connection_header)


def _choose_connection_header(version: str, connection: list[str]) -> str | None:
    """Say what becomes of the connection after the answer, as Tornado will do it."""
    if version == "HTTP/1.1" and not connection:
        return None
    wish = ",".join(connection).lower()
    if version == "HTTP/1.1":
        return "close" if wish == "close" else None
    return "keep-alive" if wish == "keep-alive" else "close"
