"""The whole gateway as its users see it: HTTP in, the `mo` command and gRPC out."""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from tests.processes import Process, running_service, running_shim

PAYLOADS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "twilio-payloads.json").read_text("utf-8")
)
FORM = {
    "From": "whatsapp:+447700900123",
    "To": "whatsapp:+14155238886",
    "MessageType": "text",
    "Body": "Hello",
    "SmsStatus": "received",
}


@dataclass
class Gateway:
    """A service and a shim, as processes."""

    service: Process
    shim: Process
    http: AsyncHTTPClient
    passwords: dict[str, str]

    async def mo(self, *arguments: str, stdin: str = "") -> list[Any]:
        """Run `mo … --json` and return the objects that it prints. Fails when it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "shim.cli", "--service", self.service.listen, *arguments, "--json"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode == 0, err.decode()
        return [json.loads(line) for line in out.decode().splitlines()]

    async def create_channel(self, channel: str, *arguments: str) -> None:
        (created,) = await self.mo("channel", "create", channel, "--user", "twilio", "--generate-password", *arguments)
        self.passwords[channel] = created["generated_password"]

    async def post(self, channel: str, form: bytes | Mapping[str, str]) -> HTTPResponse:
        """Post with credentials, as Twilio does when it was challenged."""
        credentials = b64encode(f"twilio:{self.passwords[channel]}".encode()).decode()
        request = HTTPRequest(
            f"http://{self.shim.listen}/social/on/whatsapp/twilio/message/{channel}",
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {credentials}"},
            body=form if isinstance(form, bytes) else urlencode(form),
        )
        return await self.http.fetch(request, raise_error=False)


@asynccontextmanager
async def running_gateway(folder: Path) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(running_service(folder))
        shim = await stack.enter_async_context(running_shim(folder, service=service.listen))
        http = AsyncHTTPClient(force_instance=True, max_clients=100)
        stack.callback(http.close)
        yield Gateway(service, shim, http, {})
