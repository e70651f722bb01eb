"""A TCP proxy that can be told to be a bad link.

    async with FaultProxy(service.listen) as proxy:
        proxy.black_hole()
        ...
        proxy.pass_through()

What it does holds for the connections that there are and for new ones, until it is told otherwise. It never loses a
part of a connection that goes on: what a black hole holds back arrives when it is lifted, as over a real network.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from typing import Self

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class LinkFault(enum.Enum):
    """What is wrong with the link."""

    NONE = "none"
    DELAY = "delay"
    BLACK_HOLE = "black hole"
    RESET = "reset"
    HALF_CLOSE = "half-close"


class FaultProxy:
    """Forwards connections to `upstream` ("host:port"), as well as it is told to."""

    listen: str

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._fault = LinkFault.NONE
        self._delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.listen = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def fault(self) -> LinkFault:
        return self._fault

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def pass_through(self) -> None:
        """Be a good link again. What was held back is forwarded; what was half-closed stays so."""
        self._become(LinkFault.NONE)

    def delay(self, seconds: float) -> None:
        """Forward each piece, in either direction, only after that time."""
        self._become(LinkFault.DELAY, seconds)

    def black_hole(self) -> None:
        """Forward nothing, while all connections stay and new ones are taken."""
        self._become(LinkFault.BLACK_HOLE)

    def reset(self) -> None:
        """End all connections with a RST, and new ones at once."""
        self._become(LinkFault.RESET)
        for connection in self._connections:
            connection.reset()

    def half_close(self) -> None:
        """End the answers of every connection, while requests still get through: done, yet never told."""
        self._become(LinkFault.HALF_CLOSE)
        for connection in self._connections:
            connection.end_answers()

    def _become(self, fault: LinkFault, delay_seconds: float = 0.0) -> None:
        self._fault = fault
        self._delay_seconds = delay_seconds
        if fault is LinkFault.BLACK_HOLE:
            self._flows.clear()
        else:
            self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled when the proxy ends.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is LinkFault.RESET:
            return
        host, _, port = self._upstream.rpartition(":")
        answers, requests = await asyncio.open_connection(host, int(port))
        connection = _Connection(writer, requests)
        self._connections.add(connection)
        try:
            if self._fault is LinkFault.HALF_CLOSE:
                connection.end_answers()
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, requests, connection))
                pumps.create_task(self._pump(answers, writer, connection))
        except* OSError:
            connection.reset()  # one end is gone: the other one hears of it
        finally:
            self._connections.discard(connection)
            _reset(requests)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Connection) -> None:
        while data := await source.read(_CHUNK_BYTES):
            await asyncio.sleep(self._delay_seconds)
            await self._flows.wait()
            if connection.may_write(sink):
                sink.write(data)
                await sink.drain()
        await self._flows.wait()
        if connection.may_write(sink):
            sink.write_eof()


class _Connection:
    """The two sides of one connection, seen from the proxy."""

    def __init__(self, answers: asyncio.StreamWriter, requests: asyncio.StreamWriter) -> None:
        self._answers = answers
        self._requests = requests
        self._answers_ended = False

    def may_write(self, sink: asyncio.StreamWriter) -> bool:
        return not (sink is self._answers and self._answers_ended)

    def end_answers(self) -> None:
        if not self._answers_ended and not self._answers.is_closing():
            self._answers_ended = True
            with contextlib.suppress(OSError):  # the peer has reset it: its answers have ended already
                self._answers.write_eof()

    def reset(self) -> None:
        _reset(self._answers)
        _reset(self._requests)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, with a RST; nothing happens to what is closed already."""
    if writer.transport.is_closing():
        return
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the peer was faster
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
