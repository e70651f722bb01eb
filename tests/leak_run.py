"""A whole run of the gateway with planted secrets and words; what it left behind is for test_leaks.py to judge."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub
from aicc.mo.v1.message_pb2 import MoMessage

from tests.cli.commands import Mo
from tests.planted import (
    AUTH_TOKEN,
    NAME,
    NUMBERS,
    OTHER_PASSWORD,
    OTHER_SENDER,
    OTHER_TEXT,
    PASSWORD,
    RECEIVER,
    SENDER,
    SHARED_KEY,
    TEXT,
    WORDS,
    WRONG_PASSWORD,
    holds,
)
from tests.processes import Process, running_service, running_shim
from tests.shim.caller import Response, basic, post

PLACE = "/social/on/whatsapp/twilio/message/"
FORM = {
    "From": SENDER,
    "To": RECEIVER,
    "MessageSid": "SM0",
    "MessageType": "text",
    "Body": TEXT,
    "ProfileName": NAME,
    "WaId": NUMBERS[0],
}


@dataclass
class Run:
    """What a run of the gateway left behind."""

    folder: Path
    key_file: Path
    shown: dict[str, str] = field(default_factory=dict)
    """What the processes said to anybody who may not see words: by who, where."""
    files_with_text: set[str] = field(default_factory=set)
    """Files that held a planted text at any time that we looked, below `folder`."""
    modes: dict[str, int] = field(default_factory=dict)
    core_limits: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def add(self, where: str, text: str) -> None:
        self.shown[where] = self.shown.get(where, "") + text + "\n"

    def look_at_files(self) -> None:
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # journals come and go
                self.look_at(path)

    def look_at(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        self.modes[name] = stat.S_IMODE(path.stat().st_mode)
        if path.is_file() and any(holds(path.read_bytes(), word) for word in WORDS):
            self.files_with_text.add(name)

    def look_at_process(self, process: Process, *workers: int) -> None:
        for pid in (process.pid, *workers):
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            self.core_limits += [" ".join(line.split()) for line in limits if "core file" in line]


def call(run: Run, shim: Process, body: Any = FORM, *, channel: str = "C1", **parts: Any) -> Response:
    """Post what a caller would, and keep what it is told."""
    parts = {"path": PLACE + channel, "authorization": basic("planted-user", PASSWORD)} | parts
    response = asyncio.run(post(shim.listen, body, **parts))
    run.answers.append(response.status)
    run.add("HTTP answers", response.raw.decode("latin-1"))
    return response


def look(run: Run, *processes: Process) -> None:
    """Keep what the private ports say."""
    for process in processes:
        for path in ("/metrics", "/readyz", "/healthz"):
            response = asyncio.run(post(process.admin_listen, b"", method="GET", path=path, authorization=None))
            run.add("private ports", response.body.decode())


def connect(stub: Any, connection: grpc.Channel) -> Any:
    """Make a stub that waits for its answers, which the generated types don't know of."""
    return stub(connection)


def refuse(run: Run, stub_call: Any, request: Any) -> None:
    """Make a call that fails, and keep what it fails with."""
    with pytest.raises(grpc.RpcError) as caught:
        stub_call(request, timeout=30)
    error: Any = caught.value
    run.add("gRPC errors", f"{error.details()} {error.trailing_metadata()}")


def set_up(run: Run, service: Process, mo: Mo) -> None:
    with grpc.insecure_channel(service.listen) as connection:
        directory = connect(ChannelDirectoryStub, connection)
        for name, state in (
            ("C1", directory_pb.CHANNEL_STATE_ENABLED),
            ("paused", directory_pb.CHANNEL_STATE_PAUSED),
            ("disabled", directory_pb.CHANNEL_STATE_DISABLED),
        ):
            channel = directory_pb.Channel(
                channel_config_id=name,
                webhook_user="planted-user",
                destination="bot",
                state=state,
                number=f"+{NUMBERS[2]}",
            )
            directory.CreateChannel(directory_pb.CreateChannelRequest(channel=channel, password=PASSWORD))
        for kind, secret in (
            (directory_pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN, AUTH_TOKEN),
            (directory_pb.SIGNATURE_SECRET_KIND_SHARED_KEY, SHARED_KEY),
        ):
            directory.AddSignatureSecret(
                directory_pb.AddSignatureSecretRequest(channel_config_id="C1", kind=kind, secret=secret)
            )
        refuse(
            run,
            directory.AddSignatureSecret,
            directory_pb.AddSignatureSecretRequest(
                channel_config_id="C1", kind=directory_pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN, secret=AUTH_TOKEN
            ),
        )
        refuse(
            run,
            directory.CreateChannel,
            directory_pb.CreateChannelRequest(
                channel=directory_pb.Channel(channel_config_id="C1", webhook_user="u"), password=PASSWORD
            ),
        )
        refuse(
            run,
            directory.CreateChannel,
            directory_pb.CreateChannelRequest(
                channel=directory_pb.Channel(channel_config_id=TEXT, webhook_user=f"a:{NAME}", number=NUMBERS[0]),
                password=f"{PASSWORD}\n",
            ),
        )
    mo("channel", "update", "C1", "--signature", "observe")
    mo("destination", "update", "bot", "--max-attempts", "1")
    mo("channel", "rotate-password", "C1", "--password-stdin", stdin=OTHER_PASSWORD)


def send(run: Run, shim: Process) -> None:
    """Everything that a webhook is sent: what is right, and what isn't."""
    call(run, shim, authorization=None)
    call(run, shim, authorization=basic("planted-user", WRONG_PASSWORD))
    call(run, shim, authorization=basic(WRONG_PASSWORD, PASSWORD))
    call(run, shim, authorization=f"Basic {PASSWORD}")
    call(run, shim, authorization=f"Bearer {AUTH_TOKEN}")
    for number, password in enumerate((PASSWORD, OTHER_PASSWORD)):
        headers = (("X-Twilio-Signature", "bm90IHJpZ2h0"),)
        user = basic("planted-user", password)
        call(run, shim, FORM | {"MessageSid": f"SM{number}"}, authorization=user, headers=headers)
    call(run, shim)  # a duplicate
    call(run, shim, FORM | {"Body": OTHER_TEXT})  # a clash
    call(run, shim, {"Body": TEXT, "ProfileName": NAME})  # no message: quarantine
    call(run, shim, f"Body={quote(TEXT)}&From=%ff{NUMBERS[0]}")
    call(run, shim, FORM | {"MessageSid": "x" * 300, "From": f"{SENDER}\n"})
    call(run, shim, TEXT, content_type="text/plain")
    call(run, shim, (TEXT + " ") * 10_000)
    call(run, shim, path=f"{PLACE}C1?{quote(TEXT)}={WRONG_PASSWORD}")
    call(run, shim, path=f"/{quote(TEXT)}/{WRONG_PASSWORD}")
    call(run, shim, channel="disabled")
    call(run, shim, FORM | {"From": OTHER_SENDER}, channel="paused")
    call(run, shim, channel="unknown")


def give_up(run: Run, service: Process) -> None:
    """Take what waits, give it back until it is a dead letter, and make calls that fail."""
    with grpc.insecure_channel(service.listen) as connection:
        feed, ingest = connect(MessageFeedStub, connection), connect(MessageIngestStub, connection)
        taken = feed.Pull(feed_pb.PullRequest(destination="bot", max_messages=1)).deliveries
        nack = feed_pb.ModifyAckDeadlineRequest(destination="bot", ack_ids=[delivery.ack_id for delivery in taken])
        feed.ModifyAckDeadline(nack)
        refuse(run, feed.Pull, feed_pb.PullRequest(destination=TEXT))
        broken = MoMessage(channel_config_id=TEXT, message_sid=f"{NAME}\n", sender=f"{SENDER}\n", body=TEXT)
        refuse(run, ingest.Ingest, ingest_pb.IngestRequest(message=broken))
        results = ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=[broken])).results
        run.add("gRPC errors", str(results))


def operate(run: Run, mo: Mo) -> None:
    """Everything that an operator sees without asking for words. Numbers are shown to him."""
    (quarantined, *_) = mo("quarantine", "list", "--json").objects
    (dead,) = mo("dead-letter", "list", "--json").objects
    sid = dead["message"]["message_sid"]
    for command in (
        ["status"],
        ["channel", "list"],
        ["channel", "show", "C1"],
        ["channel", "secret", "list", "C1"],
        ["destination", "list"],
        ["message", "list"],
        ["message", "show", "C1", "SM0"],
        ["message", "trace", "C1", "SM0"],
        ["held", "list"],
        ["quarantine", "list"],
        ["quarantine", "show", quarantined["entry_id"]],
        ["dead-letter", "list"],
        ["dead-letter", "show", "bot", "C1", sid],
        ["audit", "list"],
    ):
        for form in ([], ["--json"]):
            result = mo(*command, *form)
            run.add("mo", result.stdout + result.stderr)
    for failing in (
        ["channel", "create", "C1", "--user", "u", "--password-stdin"],
        ["channel", "rotate-password", "nowhere", "--password-stdin"],
    ):
        run.add("mo", mo(*failing, stdin=PASSWORD, code=1).stderr)
    run.add("audit log", mo("audit", "list", "--limit", "1000", "--json").stdout)


@contextmanager
def everybody_may_read() -> Iterator[None]:
    """Give the processes the least private of all habits to begin with."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def make_run(folder: Path) -> Run:
    """Run a service and a shim of two workers below `folder`, through everything that can go wrong for a caller."""
    run = Run(folder / "data", folder / "secrets.key")
    Mo("")("secrets", "init", str(run.key_file))
    service_flags: dict[str, Any] = {
        "store": f"sqlite:///{run.folder / 'service' / 'mo.db'}",
        "secrets_key": run.key_file,
    }
    shim_flags: dict[str, Any] = {
        "state_dir": run.folder / "host" / "shim",
        "secrets_key": run.key_file,
        "public_url": "https://mo.example.com",
        "workers": 2,
        "log_level": "debug",
    }
    with everybody_may_read(), running_service(folder, **service_flags) as service:
        mo = Mo(service.listen)
        set_up(run, service, mo)
        with running_shim(folder, service=service.listen, **shim_flags) as shim:
            shim.wait_for_event("directory_received")
            shim.wait_for_event("worker_started", occurrence=2)
            send(run, shim)
            wait_until(lambda: bool(mo("quarantine", "list", "--json").stdout))
            give_up(run, service)
            operate(run, mo)
            look(run, service, shim)
            run.look_at_process(service)
            run.look_at_process(shim, *shim.worker_pids)
            run.look_at_files()
            service.kill()
            call(run, shim, FORM | {"MessageSid": "SM-while-away"})
            call(run, shim, {"Body": TEXT})
            shim.wait_for_event("journalling")
            look(run, shim)
            run.look_at_files()
            with running_service(folder, **service_flags, listen=service.listen) as successor:
                shim.wait_for_event("journal_empty")
                operate_again(run, mo)
                look(run, successor, shim)
                shim.terminate()
                shim.wait()
            run.add("log of the successor", successor.stderr)
        run.add("log of the shim", shim.stderr)
        run.add("log of the service", service.stderr)
        run.look_at_files()
    return run


def operate_again(run: Run, mo: Mo) -> None:
    run.add("mo", mo("message", "show", "C1", "SM-while-away").stdout)
    mo("message", "erase-sender", "paused", OTHER_SENDER, "--yes")
    mo("message", "show", "C1", "SM0", "--include-text")
    run.add("audit log", mo("audit", "list", "--json").stdout)


def wait_until(condition: Any, seconds: float = 50) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
