"""One request on the public port and its answer. What the answer is, is decided in `request_head` and `intake`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from shim.answers import OVERLOADED, TOO_LARGE, Answer
from shim.connection_limits import ConnectionLimits
from shim.headers import RequestHead
from shim.intake import Intake, WebhookRequest
from shim.metrics import WebhookMetrics
from shim.request_head import MAX_DISCARDED_BYTES, WebhookHead, check_size, is_to_stay, read_head
from shim.source_address import TrustedProxies
from shim.streams import PublicStream

Send = Callable[[bytes, bool], None]
"""Takes an encoded answer, and whether the connection ends with it."""


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


class Exchange:
    """One request and its answer. Made with the head; then come the pieces of the body, and its end."""

    __slots__ = ("_body", "_head", "_headers", "_held", "_method", "_port", "_received", "_size", "_stream", "_version")

    def __init__(self, port: Port, stream: PublicStream, head: RequestHead) -> None:
        """Decide by the head whether the body is wanted."""
        self._port = port
        self._stream = stream
        self._method, target, self._version, self._headers = head
        self._head = read_head(self._method, target, self._headers.get_list)
        self._body = bytearray()  # one piece: a list of tiny ones would take forty times what they hold
        self._held = 0
        self._received = 0
        self._size = 0
        for length in self._headers.get_list(b"content-length"):
            self._expect(int(length.lstrip("0") or "0"))  # of a number that is no number for thousands of zeros

    @property
    def is_hopeless(self) -> bool:
        """Whether its body is so large that it isn't read to its end."""
        return self._size > MAX_DISCARDED_BYTES

    @property
    def awaits_consent(self) -> bool:
        """Whether the caller keeps the body back until it is asked for."""
        expected = self._headers.get_list(b"expect")
        return bool(expected) and expected[0].lower() == "100-continue" and not self._received

    def take_body(self, chunk: bytes) -> None:
        """Keep a piece of a wanted body, and drop one of another."""
        self._received += len(chunk)
        self._expect(self._received)
        if isinstance(self._head, WebhookHead):
            self._hold(chunk, self._head)

    def finish(self, send: Send) -> None:
        """Answer now, or have the request taken in. `send` is called once, now or later."""
        head, port = self._head, self._port
        if isinstance(head, Answer):
            self._respond(send, head)
            return
        request = WebhookRequest(
            head.integrator,
            head.channel_config_id,
            head.credentials,
            bytes(self._body),
            time.time_ns(),
            self._headers.get_all,
            self._find_source,
            head.target,
        )
        self._body = bytearray()
        port.intake.take(request, partial(self._respond_to_message, send, port.loop.time()))

    def drop_body(self) -> None:
        """Forget what came of the body."""
        self._body = bytearray()
        self._port.body_bytes -= self._held
        self._held = 0

    def _find_source(self) -> str | None:
        return self._port.trusted_proxies.find_source(self._stream.peer, self._headers.get_list(b"x-forwarded-for"))

    def _expect(self, size: int) -> None:
        """Refuse a body that has or will have that size, if it is too large."""
        if size > self._size:
            self._size = size
            self._head = check_size(self._head, size)
            if self._held and isinstance(self._head, Answer):
                self.drop_body()

    def _hold(self, chunk: bytes, head: WebhookHead) -> None:
        """Keep a piece of the body until the request is answered, if there is room."""
        port = self._port
        wanted, allowed = port.body_bytes + len(chunk), port.limits.max_body_bytes
        if wanted > allowed or (wanted > allowed // 2 and not port.intake.is_known(head)):
            self._head = OVERLOADED
            self.drop_body()
            return
        self._body += chunk
        self._held += len(chunk)
        port.body_bytes = wanted

    def _respond_to_message(self, send: Send, received_at: float, answer: Answer) -> None:
        port = self._port
        if answer.is_delayed:
            self.drop_body()
            port.loop.call_later(port.limits.delay_seconds, self._respond, send, answer)
            return
        port.metrics.seconds.observe(port.loop.time() - received_at)
        self._stream.was_accepted |= answer.status < 300
        self._respond(send, answer)

    def _respond(self, send: Send, answer: Answer) -> None:
        self.drop_body()
        self._port.metrics.answered[answer.name]()
        is_last = answer is TOO_LARGE or self.is_hopeless or self._port.is_draining
        is_last = is_last or not is_to_stay(self._version, self._headers.get_list)
        send(self._encode(answer, is_last=is_last), is_last)

    def _encode(self, answer: Answer, *, is_last: bool) -> bytes:
        if self._version == "1.1" and self._method != b"HEAD":
            return answer.closing if is_last else answer.open
        return answer.encode("close" if is_last else "keep-alive", has_body=self._method != b"HEAD")
