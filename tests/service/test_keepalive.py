"""Streams that are silent for long: clients ask whether the service is there, and are not sent away for it."""

from __future__ import annotations

import asyncio
import struct

from tests.service.stubs import Client

SETTINGS, PING, GOAWAY = 4, 6, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ACK = 1


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame of the connection itself (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, 0, 0) + payload


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Return the kind and the flags of the next frame."""
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3]))
    return head[3], head[4]


async def test_a_client_may_ask_as_often_as_it_likes_whether_the_service_is_there(client: Client) -> None:
    host, _, port = client.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + frame(SETTINGS))
    async with asyncio.timeout(30):
        for answered in range(20):
            writer.write(frame(PING, b"are you?"))
            while (kind_and_flags := await read_frame(reader)) != (PING, ACK):
                assert kind_and_flags[0] != GOAWAY, f"sent away after {answered} answers"
    writer.close()
    await writer.wait_closed()
