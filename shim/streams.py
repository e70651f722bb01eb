"""The connections of the public port as streams, in the clear or with TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from tornado.iostream import IOStream, SSLIOStream

from shim.answers import MALFORMED

_MAX_BUFFER_BYTES = 1024 * 1024
_READ_BYTES = 16 * 1024
"""How much is read at a time, so what a caller that doesn't wait for its turn can make us keep."""
_TORNADO_REFUSES = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class PublicStream(IOStream):
    """A connection, and what has become of it so far."""

    def __init__(self, accepted: socket.socket, *, count_malformed: Callable[[], None]) -> None:
        super().__init__(accepted, max_buffer_size=_MAX_BUFFER_BYTES, read_chunk_size=_READ_BYTES)
        self.heard_bytes = 0
        self.is_new = True
        """Whether no head has come yet."""
        self.was_accepted = False
        """Whether a request on it was let in."""
        self._count_malformed = count_malformed

    @property
    def peer(self) -> str:
        """The address at the other end; empty when nobody is there any more."""
        with contextlib.suppress(OSError):
            if not self.closed():
                return str(self.socket.getpeername()[0])
        return ""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read what is there, and count it: so that one who has begun a head differs from one who is silent."""
        heard = super().read_from_fd(buf)
        self.heard_bytes += heard or 0
        return heard

    def write(self, data: bytes | memoryview) -> "asyncio.Future[None]":
        """Write, and in place of Tornado's refusal of malformed HTTP, which has no headers and no hook, our own."""
        if data == _TORNADO_REFUSES:
            self._count_malformed()
            data = MALFORMED.closing
        return super().write(data)


class _TlsStream(PublicStream, SSLIOStream):
    """A connection whose handshake is still to be made."""


def open_stream(
    accepted: socket.socket, tls: ssl.SSLContext | None, *, count_malformed: Callable[[], None]
) -> PublicStream | None:
    """Make a stream of a connection; None when the caller has gone already."""
    if tls is None:
        return PublicStream(accepted, count_malformed=count_malformed)
    try:
        wrapped = tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    except OSError:
        accepted.close()
        return None
    return _TlsStream(wrapped, count_malformed=count_malformed)
