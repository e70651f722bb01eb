"""The bad link is as bad as it says, and no worse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import FaultProxy, LinkFault

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """Echoes what it reads, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self.has_received = asyncio.Event()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                self.received += data
                self.has_received.set()
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(upstream.echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with asyncio.timeout(20), FaultProxy(f"{host}:{port}") as proxy:
        yield proxy
    server.close()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Ends]:
    host, _, port = proxy.listen.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()


async def echo(ends: Ends, data: bytes) -> bytes:
    ends[1].write(data)
    return await ends[0].readexactly(len(data))


async def test_it_passes_everything_on(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        assert await echo(ends, b"x" * 1_000_000) == b"x" * 1_000_000


async def test_the_end_of_a_connection_passes_on_too(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await echo(ends, b"x")
        ends[1].write_eof()
        assert await ends[0].read() == b""


async def test_a_delay_holds_for_each_direction(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await echo(ends, b"before")
        proxy.delay(0.1)
        started_at = asyncio.get_running_loop().time()
        await echo(ends, b"after")
        assert asyncio.get_running_loop().time() - started_at >= 0.2


async def test_a_black_hole_swallows_nothing_for_good(proxy: FaultProxy, upstream: Upstream) -> None:
    async with connected(proxy) as ends, connected(proxy) as new_ends:
        await echo(ends, b"before")
        proxy.black_hole()
        ends[1].write(b"held")
        new_ends[1].write(b"also")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ends[0].read(1), 0.2)
        assert upstream.received == b"before"
        proxy.pass_through()
        assert await ends[0].readexactly(4) == b"held"
        assert await new_ends[0].readexactly(4) == b"also"


async def test_a_reset_ends_old_and_new_connections_until_it_is_lifted(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await echo(ends, b"before")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
    async with connected(proxy) as ends:
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)
    proxy.pass_through()
    async with connected(proxy) as ends:
        assert await echo(ends, b"again") == b"again"


async def test_a_half_closed_connection_ends_its_answers_and_still_takes_requests(
    proxy: FaultProxy, upstream: Upstream
) -> None:
    async with connected(proxy) as ends:
        await echo(ends, b"before")
        upstream.has_received.clear()
        proxy.half_close()
        assert await ends[0].read() == b""
        ends[1].write(b"done")
        await upstream.has_received.wait()
        assert upstream.received == b"beforedone"


async def test_an_upstream_that_is_away_is_a_reset(upstream: Upstream) -> None:
    async with FaultProxy("127.0.0.1:1") as proxy, connected(proxy) as ends:
        with pytest.raises(ConnectionResetError):
            await ends[0].read(1)


async def test_it_forgets_connections_that_are_gone(proxy: FaultProxy) -> None:
    async with connected(proxy) as ends:
        await echo(ends, b"x")
        assert proxy.connections == 1
        ends[1].write_eof()
        await ends[0].read()
    assert proxy.connections == 0
    assert proxy.fault is LinkFault.NONE
