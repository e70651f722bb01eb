"""One connection of the public port: its bytes become requests, which are answered one after the other.

Tornado reads and writes. The parser is llhttp, Node's, through httptools: strict about everything that two readers
could read in two ways, and at a fraction of the CPU time of Tornado's own.
"""

import asyncio
import enum
import logging
from collections import deque

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from tornado.iostream import StreamClosedError

from shim.answers import HEAD_TOO_LARGE, INTERNAL_ERROR, MALFORMED, TOO_LARGE, Answer
from shim.exchange import Exchange, Port
from shim.headers import Headers, RequestHead
from shim.request_head import MAX_HEAD_BYTES, MAX_HEADERS, is_unambiguous
from shim.streams import READ_BYTES, PublicStream

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CROWDED_SECONDS = 2.0
"""How long a connection on which nobody was let in yet may wait for a head while half of all that may be are open."""


class _Stage(enum.Enum):
    """What a connection waits for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    SENDING = enum.auto()
    IDLE = enum.auto()
    """The first byte of another request."""


class Connection:
    """Reads the requests of one caller. Its public methods named `on_…` are the parser's."""

    def __init__(self, port: Port, stream: PublicStream) -> None:
        """Nothing is read yet; the time for the first head runs."""
        self.stream = stream
        self._port = port
        self._parser = HttpRequestParser(self)
        limits = port.limits
        self._seconds = {
            _Stage.HEAD: limits.head_seconds,
            _Stage.BODY: limits.body_seconds,
            _Stage.SENDING: limits.body_seconds,
            _Stage.IDLE: limits.idle_seconds,
        }
        self._stage = _Stage.HEAD
        self._since = port.loop.time()
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing: list[tuple[bytes, bytes]] = []
        self._is_new = True
        """Whether no head has come yet."""
        self._is_begun = False
        """Whether a request has begun and isn't complete."""
        self._is_resumed = False
        self._current: Exchange | None = None
        """The request whose body is still to come."""
        self._complete: deque[Exchange] = deque()
        self._fault: Answer | None = None
        """Why what came after the last complete request can't be read."""
        self._unread_bytes = 0
        """What came since the last piece of a body, or the last request."""
        self._sent: asyncio.Future[asyncio.Future[None] | None] | None = None
        self._is_over = False

    @property
    def is_idle(self) -> bool:
        """Whether no head has come that isn't answered."""
        return self._stage in {_Stage.HEAD, _Stage.IDLE}

    def is_late(self, now: float, *, is_crowded: bool) -> bool:
        """Whether the caller has taken too long to send the head, to send the body, or to read the answer."""
        waited = now - self._since
        if is_crowded and self.is_idle and not self.stream.was_accepted and waited > _CROWDED_SECONDS:
            return True
        return self._stage is not _Stage.ANSWER and waited > self._seconds[self._stage]

    async def serve(self) -> None:
        """Read and answer until one of both hangs up."""
        try:
            while not self._is_over:
                self._enter(self._find_stage())
                some = self.stream.read_bytes(READ_BYTES, partial=True)
                if not self.stream.reading():
                    await asyncio.sleep(0)  # who sends without a pause lets others have their turn
                self._read(await some)
                await self._answer_all()
        except StreamClosedError as error:
            error.__traceback__ = None  # it holds this frame, and the frame holds it
        finally:
            self.stream.close()
            for exchange in [*self._complete, *([self._current] if self._current else [])]:
                exchange.drop_body()
            del self._parser  # it refers to us, and the garbage collector, which is for that, comes seldom

    def _find_stage(self) -> _Stage:
        if self._current:
            return _Stage.BODY
        return _Stage.HEAD if self._is_begun or self._is_new else _Stage.IDLE

    def _enter(self, stage: _Stage) -> None:
        if self._stage is not stage:
            self._stage = stage
            self._since = self._port.loop.time()

    # ---- what comes in

    def _read(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        # The parser skips what ends lines between requests, in any form.
        if self._is_begun or data[0] not in b"\r\n" or data.startswith(b"\r\n"):
            self._parse(data)
        else:
            self._fault = MALFORMED
        if self._unread_bytes > MAX_HEAD_BYTES:
            self._fault = self._fault or HEAD_TOO_LARGE

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except HttpParserCallbackError as error:
            _log.error("request_failed", exc_info=error.__context__ or error)
            self._fault = INTERNAL_ERROR
        except HttpParserError as error:
            refusal = TOO_LARGE if "Content-Length overflow" in str(error) else MALFORMED
            self._fault = self._fault or refusal

    def _go_on(self, rest: bytes) -> None:
        """Read a request that asks for another protocol as one that doesn't: the parser leaves its body to that."""
        self._parser = HttpRequestParser(self)
        self._is_resumed = True
        framing = b"".join(b"%s: %s\r\n" % pair for pair in self._framing)
        self._parse(b"POST / HTTP/1.1\r\n%s\r\n" % framing + rest)

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._is_begun = True
        self._target = b""
        self._headers = []

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; after the body, a trailer."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide by the head what becomes of the body."""
        pairs, self._headers = self._headers, []
        if self._is_resumed:
            self._is_resumed = False
            return
        if self._fault:
            return
        is_long = self._unread_bytes > MAX_HEAD_BYTES and _size_of(self._target, pairs) > MAX_HEAD_BYTES
        if is_long or len(pairs) > MAX_HEADERS:
            self._fault = HEAD_TOO_LARGE
            return
        self._unread_bytes = 0
        self._is_new = False
        headers, version = Headers(pairs), self._parser.get_http_version()
        if not is_unambiguous(version, headers.get_list):
            self._fault = MALFORMED
            return
        if self._parser.should_upgrade():
            self._framing = [pair for pair in pairs if pair[0].lower() in {b"content-length", b"transfer-encoding"}]
        head = RequestHead(self._parser.get_method(), self._target, version, headers)
        self._current = Exchange(self._port, self.stream, head)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._unread_bytes = 0
        if self._current:
            self._current.take_body(piece)

    def on_message_complete(self) -> None:
        """Put the request behind those that are to be answered."""
        if self._parser.should_upgrade():
            return
        self._unread_bytes = 0
        self._is_begun = False
        if self._headers:
            self._fault = self._fault or MALFORMED  # trailers, which somebody could take for headers
        if self._current and not self._fault:
            self._complete.append(self._current)
            self._current = None

    # ---- what goes out

    async def _answer_all(self) -> None:
        while self._complete and not self._is_over:
            await self._answer(self._complete.popleft())
        if self._is_over:
            return
        if self._fault:
            self._port.metrics.answered[self._fault.name]()
            await self._send(self._fault.closing, is_last=True)
        elif self._current and self._current.is_hopeless:
            await self._answer(self._current)
        elif self._current and self._current.awaits_consent and self._stage is not _Stage.BODY:
            await self._send(_CONTINUE)

    async def _answer(self, exchange: Exchange) -> None:
        self._enter(_Stage.ANSWER)
        self._sent = self._port.loop.create_future()
        exchange.finish(self._respond)
        rest = await self._sent
        if rest:
            self._enter(_Stage.SENDING)
            await rest

    def _respond(self, encoded: bytes, is_last: bool) -> None:
        """Take an answer; nobody may wait for it any more."""
        if self._sent is None or self._sent.done():
            self._port.metrics.callers_gone.inc()
            return
        self._is_over |= is_last
        try:
            self._sent.set_result(self.stream.send(encoded))
        except StreamClosedError as error:
            self._port.metrics.callers_gone.inc()
            self._sent.set_exception(error)

    async def _send(self, data: bytes, *, is_last: bool = False) -> None:
        self._is_over |= is_last
        rest = self.stream.send(data)
        if rest:
            self._enter(_Stage.SENDING)
            await rest


def _size_of(target: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
