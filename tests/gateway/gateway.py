"""The whole gateway as its users see it: HTTP in, the `mo` command and gRPC out."""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Gateway:
    """A service and a shim, as processes. Tests that share them have channels and destinations of their own."""

    service: Process
    shim: Process
    passwords: dict[str, str] = field(default_factory=dict)

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
        # Should the shim ask about it and have no answer in half a second, it must first be told.
        while (await self.post(channel, b"MessageSid=SM0&MessageStatus=delivered")).code == 401:
            continue

    async def post(self, channel: str, form: bytes | Mapping[str, str]) -> HTTPResponse:
        """Post with credentials, as Twilio does when it was challenged."""
        credentials = b64encode(f"twilio:{self.passwords[channel]}".encode()).decode()
        request = HTTPRequest(
            f"http://{self.shim.listen}/social/on/whatsapp/twilio/message/{channel}",
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {credentials}"},
            body=form if isinstance(form, bytes) else urlencode(form),
        )
        with closing(AsyncHTTPClient(force_instance=True)) as http:
            return await http.fetch(request, raise_error=False)

    async def post_until(self, channel: str, form: Mapping[str, str], code: int) -> None:
        """Post again and again, until that is the answer."""
        while (await self.post(channel, form)).code != code:
            pass


@contextmanager
def running_gateway(folder: Path) -> Iterator[Gateway]:
    with running_service(folder) as service, running_shim(folder, service=service.listen) as shim:
        yield Gateway(service, shim)
