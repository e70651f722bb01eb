"""The connections of the public port as streams, in the clear or with TLS."""

import asyncio
import contextlib
import socket
import ssl

from tornado.iostream import IOStream, SSLIOStream

READ_BYTES = 16 * 1024
"""How much is read at a time, so what a caller that doesn't wait for its turn can make us keep."""
_MAX_BUFFER_BYTES = 1024 * 1024


class PublicStream(IOStream):
    """A connection, and what has become of it so far."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted, max_buffer_size=_MAX_BUFFER_BYTES, read_chunk_size=READ_BYTES)
        self.was_accepted = False
        """Whether a request on it was let in."""
        self.set_nodelay(True)  # answers are written whole

    @property
    def peer(self) -> str:
        """The address at the other end; empty when nobody is there any more."""
        with contextlib.suppress(OSError):
            if not self.closed():
                return str(self.socket.getpeername()[0])
        return ""

    def send(self, data: bytes) -> "asyncio.Future[None] | None":
        """Write what the connection takes now; return what to wait for when that isn't everything.

        `write` makes a future and calls back twice even when nothing is left to be waited for, as nearly always.
        Raises `StreamClosedError` when there is no connection any more, or none after this.
        """
        sent = 0
        if not self.writing() and not self.closed():
            try:
                sent = self.write_to_fd(memoryview(data))
            except BlockingIOError:
                pass
            except OSError as error:  # TLS has faults of its own
                self.close(exc_info=error)
        return self.write(data[sent:]) if sent < len(data) else None


class _TlsStream(PublicStream, SSLIOStream):
    """A connection whose handshake is still to be made."""


def open_stream(accepted: socket.socket, tls: ssl.SSLContext | None) -> PublicStream | None:
    """Make a stream of a connection; None when the caller has gone already."""
    if tls is None:
        return PublicStream(accepted)
    try:
        wrapped = tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    except OSError:
        accepted.close()
        return None
    return _TlsStream(wrapped)
