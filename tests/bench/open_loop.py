"""A caller that posts at a fixed rate, each message challenged first, as Twilio's are.

An open loop: a message is due when it is due, whatever became of those before it; so many connections are opened as
that takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from tests.bench.load import PATH, Target

_SENDERS = 5_000


class Posted(NamedTuple):
    """When a message was due, and when it had its 2xx, by the monotonic clock."""

    due_at: float
    answered_at: float


class OpenLoop:
    """Posts, over connections that are kept alive."""

    def __init__(self, target: Target) -> None:
        self.bad = 0
        """How many messages weren't challenged once and then taken."""
        self._target = target
        self._idle: list[_Connection] = []

    async def post(self, run: str, rate: int, seconds: float) -> Mapping[str, Posted]:
        """Post for so long; return the MessageSids that were taken when all have their answer."""
        started_at = time.monotonic()
        posts = []
        for number in range(round(rate * seconds)):
            due_at = started_at + number / rate
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            posts.append(asyncio.create_task(self._post(f"SM{run}{number:030d}", number, due_at)))
        posted = [each for each in await asyncio.gather(*posts) if each]
        self.bad += len(posts) - len(posted)
        return dict(posted)

    def close(self) -> None:
        """Hang up."""
        for connection in self._idle:
            connection.close()

    async def _post(self, sid: str, number: int, due_at: float) -> tuple[str, Posted] | None:
        """Return None when the message wasn't taken."""
        try:
            connection = self._idle.pop() if self._idle else await _Connection.open(self._target)
            statuses = [await connection.post(sid, number, is_authorized=each) for each in (False, True)]
        except (OSError, asyncio.IncompleteReadError):  # not given back: it is broken
            return None
        self._idle.append(connection)
        return (sid, Posted(due_at, time.monotonic())) if statuses == [401, 204] else None


class _Connection:
    """A connection that is kept alive."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: Target) -> _Connection:
        host, _, port = target.address.rpartition(":")
        return cls(target, *await asyncio.open_connection(host, int(port)))

    async def post(self, sid: str, number: int, *, is_authorized: bool) -> int:
        """Post a message; return the status of the answer."""
        body = urlencode(_form(sid, number)).encode()
        authorization = f"Authorization: {self._target.authorization}\r\n" if is_authorized else ""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._target.address}\r\nUser-Agent: TwilioProxy/1.1\r\n{authorization}"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        lengths = [line.partition(":")[2] for line in lines if line.startswith("content-length:")]
        await self._reader.readexactly(int(lengths[0]) if lengths else 0)
        return int(lines[0].split()[1])

    def close(self) -> None:
        self._writer.close()


def _form(sid: str, number: int) -> Mapping[str, str]:
    """Return a text message as `post.lua` sends it."""
    return {
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ProfileName": "Ada Okafor",
        "MessageType": "text",
        "SmsSid": sid,
        "WaId": "447700900123",
        "SmsStatus": "received",
        "Body": "Hello, where is my order #4711?",
        "To": "whatsapp:+14155238886",
        "NumSegments": "1",
        "ReferralNumMedia": "0",
        "MessageSid": sid,
        "AccountSid": "AC00000000000000000000000000000007",
        "ChannelMetadata": '{"type":"whatsapp","data":{"context":{"ProfileName":"Ada Okafor","WaId":"447700900123"}}}',
        "From": f"whatsapp:+4477009{number % _SENDERS:05d}",
        "ApiVersion": "2010-04-01",
    }
