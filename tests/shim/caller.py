"""A client that sends bytes and reads bytes, so that nothing between it and the shim is polite."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from tests.shim.fake_service import PASSWORD, USER

PATH = "/social/on/whatsapp/twilio/message/C1"
FORM = {"From": "whatsapp:+447700900123", "To": "whatsapp:+14155238886", "MessageSid": "SM1", "MessageType": "text"}


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def encode_request(
    body: bytes | str | Mapping[str, str] = FORM,
    *,
    method: str = "POST",
    path: str = PATH,
    version: str = "HTTP/1.1",
    authorization: str | None = basic(),
    content_type: str | None = "application/x-www-form-urlencoded",
    is_chunked: bool = False,
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    if isinstance(body, Mapping):
        body = urlencode(body)
    if isinstance(body, str):
        body = body.encode()
    lines = [f"{method} {path} {version}", "Host: shim"]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in headers]
    if is_chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in _pieces(body)) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _pieces(body: bytes) -> list[bytes]:
    return [body[start : start + 1_000] for start in range(0, len(body), 1_000)]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes
    raw: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["Content-Type"] == "application/problem+json"
        return json.loads(self.body)


class Caller:
    """One connection."""

    def __init__(self, listen: str) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def post(self, *args: Any, **kwargs: Any) -> Response:
        self.send(encode_request(*args, **kwargs))
        return await self.read(method=kwargs.get("method", "POST"))

    def send(self, request: bytes) -> None:
        self.writer.write(request)

    async def read(self, *, method: str = "POST") -> Response:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if method == "HEAD" else int(headers.get("Content-Length", "0"))
        body = await self.reader.readexactly(length)
        return Response(int(status_line.split(" ")[1]), headers, body, head + body)

    async def is_closed(self) -> bool:
        """Wait for the other side to hang up; False when it sends something instead."""
        return await self.reader.read(1) == b""


async def post(listen: str, *args: Any, **kwargs: Any) -> Response:
    """Post on a connection of its own."""
    async with Caller(listen) as caller:
        return await caller.post(*args, **kwargs)
