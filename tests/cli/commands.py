"""`mo` as the tests call it: as a process before a service, or in this process where it needs none."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest.mock import patch

import grpc
import pytest
from aicc.mo.v1.message_ingest_pb2 import (
    IngestBatchRequest,
    IngestBatchResponse,
    IngestOutcome,
    QuarantinedRequest,
    QuarantineRequest,
    QuarantineResponse,
)
from aicc.mo.v1.message_pb2 import FieldViolation, MessageType, MoMessage, Parameter
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.__main__ import run

_Response = TypeVar("_Response", bound=Message)


@dataclass(frozen=True)
class Result:
    """What one command printed, and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        """The only JSON object on stdout."""
        (found,) = self.objects
        return found


def run_here(env: Mapping[str, str], *arguments: str, stdin: str = "") -> Result:
    """Run a command in this process, with this environment."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, env, clear=True),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = run(arguments)
    return Result(code, stdout.getvalue(), stderr.getvalue())


@dataclass(frozen=True)
class Mo:
    """Calls `mo` against one service."""

    service: str

    @property
    def env(self) -> dict[str, str]:
        # A developer's PYTHONUNBUFFERED would hide that something is not flushed.
        dropped = ("MO_", "PYTHONUNBUFFERED")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return kept | {"MO_SERVICE": self.service}

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> Result:
        """Run a command in this process, which is fast; it is to end with `code`."""
        ended = run_here(self.env, *arguments, stdin=stdin)
        assert ended.code == code, f"mo {' '.join(arguments)} ended with {ended.code}: {ended.stderr}"
        return ended

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as a process, which the test ends."""
        command = [sys.executable, "-m", "shim.cli", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)

    def create_channel(self, channel_config_id: str, *options: str) -> None:
        self("channel", "create", channel_config_id, "--user", "twilio", "--generate-password", *options)

    def ingest(self, channel: str, *sids: str, sender: str = "whatsapp:+447700900123", body: str = "Hello") -> None:
        """Have the service store a text message for each MessageSid, or keep aside what clashes with one."""
        messages = [
            MoMessage(
                channel_config_id=channel,
                message_sid=sid,
                sender=sender,
                receiver="whatsapp:+14155238886",
                message_type=MessageType.MESSAGE_TYPE_TEXT,
                message_type_name="text",
                body=body,
            )
            for sid in sids
        ]
        response = self.call(
            "MessageIngest/IngestBatch", IngestBatchRequest(messages=messages), IngestBatchResponse.FromString
        )
        assert IngestOutcome.INGEST_OUTCOME_REJECTED not in {result.outcome for result in response.results}

    def quarantine(self, channel: str, **bodies: bytes) -> None:
        """Have the service keep a request for each entry id, in which From was missing."""
        requests = [
            QuarantinedRequest(
                entry_id=entry_id,
                channel_config_id=channel,
                integrator="twilio",
                headers=[Parameter(name="User-Agent", value="TwilioProxy/1.1")],
                body=body,
                reasons=[FieldViolation(field="From", description="is missing")],
                receive_time=Timestamp(seconds=1_700_000_000),
            )
            for entry_id, body in bodies.items()
        ]
        self.call("MessageIngest/Quarantine", QuarantineRequest(requests=requests), QuarantineResponse.FromString)

    def call(self, method: str, request: Message, decode: Callable[[bytes], _Response]) -> _Response:
        """Call the service as a shim does."""
        with grpc.insecure_channel(self.service) as connection:
            call: grpc.UnaryUnaryMultiCallable[bytes, _Response] = connection.unary_unary(
                f"/aicc.mo.v1.{method}", response_deserializer=decode
            )
            return call(request.SerializeToString(), timeout=30)


@dataclass(frozen=True)
class CommandLine:
    """Calls `mo` in this process: for what needs no service."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Result:
        code = run(arguments)
        printed = self.capture.readouterr()
        return Result(code, printed.out, printed.err)
