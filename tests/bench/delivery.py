"""From the webhook to a consumer at a fixed rate: each message is challenged first, as Twilio's are.

An open loop: a message is due when it is due, whatever became of those before it, and its time runs from then until a
consumer has it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple
from urllib.parse import urlencode

import grpc
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub

from tests.bench.load import PATH, Target
from tests.bench.measuring import cpu_seconds, create_channel, quiet_processes, spread
from tests.processes import running_service, running_shim

RATE = 200
_SENDERS = 5_000
_PATIENCE_SECONDS = 10.0


class Round(NamedTuple):
    """Milliseconds of each message, and CPU microseconds a message of shim and service."""

    latencies: Sequence[float]
    shim_us: float
    service_us: float


def run_rounds(folder: Path, arguments: argparse.Namespace) -> Sequence[Round]:
    """Measure as often and as long as the other figures; the first round warms up and is left out."""
    with quiet_processes(), ExitStack() as stack:
        service = stack.enter_context(running_service(folder))
        shim = stack.enter_context(running_shim(folder, service=service.listen))
        target = Target(shim.listen, create_channel(service))

        async def measure_all() -> Sequence[Round]:
            async with grpc.aio.insecure_channel(service.listen) as channel:
                course = _Course(target)
                consuming = asyncio.create_task(course.consume(MessageFeedStub(channel)))
                rounds = []
                for number in range(arguments.rounds + 1):
                    before = [cpu_seconds(process) for process in (shim, service)]
                    latencies = await course.post(f"{number:02d}", arguments.seconds)
                    after = [cpu_seconds(process) for process in (shim, service)]
                    used = [(end - start) / len(latencies) * 1e6 for start, end in zip(before, after, strict=True)]
                    rounds.append(Round(latencies, *used))
                consuming.cancel()
                await asyncio.gather(consuming, return_exceptions=True)
                course.close()
                return rounds[1:]

        return asyncio.run(measure_all())


def summarise(rounds: Sequence[Round]) -> Mapping[str, str]:
    """Put the figures together that the table shows."""
    cuts = [quantiles(each.latencies, n=100) for each in rounds]
    return {
        **{
            f"at {RATE} messages/s: webhook to consumer p{percent} ms": spread([cut[percent - 1] for cut in cuts], 1)
            for percent in (50, 95, 99)
        },
        f"at {RATE} messages/s: CPU us/message, shim": spread([each.shim_us for each in rounds]),
        f"at {RATE} messages/s: CPU us/message, service": spread([each.service_us for each in rounds]),
    }


class _Course:
    """What was posted, when it was due, and when it came."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[_Connection] = []
        self._due_at: dict[str, float] = {}
        self._latencies: list[float] = []
        self._has_come = asyncio.Event()

    async def post(self, run: str, seconds: int) -> Sequence[float]:
        """Post for so long; return how many milliseconds each message took."""
        self._latencies = []
        started_at = time.monotonic()
        posts = []
        for number in range(RATE * seconds):
            due_at = started_at + number / RATE
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            sid = f"SM{run}{number:030d}"
            self._due_at[sid] = due_at
            posts.append(asyncio.create_task(self._post(sid, number)))
        await asyncio.gather(*posts)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self._due_at:
                self._has_come.clear()
                await self._has_come.wait()
        return self._latencies

    async def consume(self, feed: MessageFeedStub) -> None:
        """Take messages and acknowledge them, for as long as nobody cancels it."""
        call = feed.Subscribe()
        await call.write(feed_pb.SubscribeRequest(destination="default"))
        async for response in call:
            now = time.monotonic()
            for delivery in response.deliveries:
                self._latencies.append((now - self._due_at.pop(delivery.message.message_sid)) * 1e3)
            if response.deliveries:
                self._has_come.set()
                await call.write(feed_pb.SubscribeRequest(ack_ids=[each.ack_id for each in response.deliveries]))

    def close(self) -> None:
        """Hang up."""
        for connection in self._idle:
            connection.close()

    async def _post(self, sid: str, number: int) -> None:
        connection = self._idle.pop() if self._idle else await _Connection.open(self._target)
        statuses = [await connection.post(sid, number, is_authorized=is_authorized) for is_authorized in (False, True)]
        assert statuses == [401, 204], statuses
        self._idle.append(connection)


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
