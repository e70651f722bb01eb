"""`mo quarantine` against a real service."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from aicc.mo.v1.channel_directory_pb2 import GetChannelRequest, GetChannelResponse
from aicc.mo.v1.message_archive_pb2 import GetQuarantinedRequest, GetQuarantinedResponse
from aicc.mo.v1.message_ingest_pb2 import (
    IngestOutcome,
    IngestRequest,
    IngestResponse,
    IngestResult,
    QuarantinedRequest,
)
from google.protobuf.message import Message

from shim.cli.retry import Retried, Retry
from tests.cli.commands import Mo
from tests.processes import running_service

VALID = b"MessageSid=%b&From=whatsapp%%3A%%2B447700900123&To=whatsapp%%3A%%2B14155238886&MessageType=text&Body=private"


def listed(mo: Mo, channel: str) -> list[str]:
    return [line["entry_id"] for line in mo("quarantine", "list", "--channel", channel, "--json").objects]


def test_requests_are_listed_newest_first_with_what_is_wrong_and_without_their_text(mo: Mo) -> None:
    mo.create_channel("in-list")
    mo.quarantine("in-list", l1=b"Body=private", l2=b"Body=private")
    assert listed(mo, "in-list") == ["l2", "l1"]
    shown = mo("quarantine", "list", "--channel", "in-list").stdout
    assert "From: is missing" in shown
    assert "refused" in shown
    assert "private" not in shown
    assert "private" in mo("quarantine", "list", "--channel", "in-list", "--include-text").stdout
    assert len(mo("quarantine", "list", "--channel", "in-list", "--limit", "1", "--json").objects) == 1


def test_a_request_is_shown_with_headers_and_body_only_when_asked_for(mo: Mo) -> None:
    mo.create_channel("in-show")
    mo.quarantine("in-show", s1=b"Body=private\xff\x1b")
    without = mo("quarantine", "show", "s1").stdout
    assert "From: is missing" in without
    assert "private" not in without
    assert "Twilio" not in without
    text = mo("quarantine", "show", "s1", "--include-text").stdout
    assert r"Body=private\xff\x1b" in text
    assert "User-Agent: TwilioProxy/1.1" in text
    whole = mo("quarantine", "show", "s1", "--include-text", "--json").object
    assert base64.b64decode(whole["body"]) == b"Body=private\xff\x1b"


def test_a_retry_stores_what_is_valid_now_and_names_the_fields_of_what_is_not(mo: Mo) -> None:
    mo.create_channel("mended", "--destination", "mended")
    mo.quarantine("mended", m1=VALID % b"SM1", m2=b"MessageSid=SM2&To=x&MessageType=text", m3=VALID % b"SM3")
    shown = mo("quarantine", "retry", "--channel", "mended", code=1)
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        ["m1", "accepted"],
        ["m2", "stays"],
        ["m3", "accepted"],
    ]
    assert "From: " in shown.stdout
    assert "1 of 3 stay" in shown.stderr
    assert listed(mo, "mended") == ["m2"]
    delivered = mo("feed", "pull", "mended", "--ack").objects
    assert [line["message"]["message_sid"] for line in delivered] == ["SM1", "SM3"]
    assert delivered[0]["message"]["receive_time"] == "2023-11-14T22:13:20Z"


def test_a_retry_follows_what_the_channel_says_today(mo: Mo) -> None:
    mo.create_channel("inferring", "--no-destination")
    mo.quarantine("inferring", i1=(VALID % b"SM1").replace(b"&MessageType=text", b""))
    (stayed,) = mo("quarantine", "retry", "i1", "--json", code=1).objects
    assert stayed["outcome"] == "INGEST_OUTCOME_REJECTED"
    assert [violation["field"] for violation in stayed["violations"]] == ["MessageType"]
    mo("channel", "update", "inferring", "--infer-message-type")
    (settled,) = mo("quarantine", "retry", "i1", "--json").objects
    assert (settled["entry_id"], settled["message_sid"]) == ("i1", "SM1")
    assert (settled["outcome"], settled["hold_reason"]) == ("INGEST_OUTCOME_HELD", "HOLD_REASON_UNROUTED")


def test_a_retry_of_a_message_that_came_again_meanwhile_settles_the_request(mo: Mo) -> None:
    mo.create_channel("came-again")
    mo.ingest("came-again", "SM1")
    mo.quarantine("came-again", d1=VALID % b"SM1")
    assert "duplicate" in mo("quarantine", "retry", "d1").stdout
    assert listed(mo, "came-again") == []


def test_what_was_never_a_message_stays_until_it_is_discarded(mo: Mo) -> None:
    mo.create_channel("never")
    mo.quarantine("never", n1=b"MessageStatus=sent&MessageSid=SM1", n2=b"\xff%ff", n3=VALID % b"S%0A")
    shown = mo("quarantine", "retry", "n1", "n2", "n3", "n4", code=1).stdout
    assert "status callback" in shown
    assert "not UTF-8" in shown
    assert "MessageSid: " in shown
    assert "not in quarantine" in shown
    assert "--yes" in mo("quarantine", "discard", "n1", code=1).stderr
    assert mo("quarantine", "discard", "n1", "--yes", "--json").object == {"discarded": 1}
    assert "1 of the named" in mo("quarantine", "discard", "n1", "n2", "--yes", code=1).stderr
    assert mo("quarantine", "discard", "--channel", "never", "--yes").stdout.split() == ["discarded", "1"]
    assert listed(mo, "never") == []


def test_a_request_for_a_channel_that_never_existed_stays(mo: Mo) -> None:
    mo.quarantine("no-such-channel", x1=VALID % b"SM1")
    (stayed,) = mo("quarantine", "retry", "x1", "--json", code=1).objects
    assert [violation["field"] for violation in stayed["violations"]] == ["channel_config_id"]


def test_more_than_a_page_is_retried_and_discarded(mo: Mo) -> None:
    mo.create_channel("many")
    for start in range(0, 1_100, 100):
        mo.quarantine("many", **{f"p{number}": b"Body=" for number in range(start, start + 100)})
    assert len(mo("quarantine", "retry", "--channel", "many", "--json", code=1).objects) == 1_100
    assert mo("quarantine", "discard", "--channel", "many", "--yes", "--json").object == {"discarded": 1_100}


def test_a_terminal_gets_a_progress_bar_and_the_pipe_the_results(mo: Mo) -> None:
    mo.create_channel("watched")
    mo.quarantine("watched", w1=VALID % b"SM1", w2=VALID % b"SM2")
    controller, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "shim.cli", "quarantine", "retry", "w1", "w2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env=mo.env | {"TERM": "xterm"},
    ) as process:
        stdout, _ = process.communicate(timeout=60)
    os.close(terminal)
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    assert len(stdout.splitlines()) == 3, shown
    assert "retrying" in shown
    assert "100%" in shown


def find_entry(request: GetQuarantinedRequest, _context: grpc.ServicerContext) -> GetQuarantinedResponse:
    """Return an entry that is a valid message whose MessageSid is the entry's id."""
    entry = QuarantinedRequest(
        entry_id=request.entry_id,
        channel_config_id="C1",
        integrator="twilio",
        body=VALID % request.entry_id.encode(),
    )
    return GetQuarantinedResponse(request=entry)


def ingest_all_but_one(request: IngestRequest, context: grpc.ServicerContext) -> IngestResponse:
    """Fail as a service with a fault does on the message SM1."""
    if request.message.message_sid == "SM1":
        context.abort(grpc.StatusCode.INTERNAL, "")
    return IngestResponse(result=IngestResult(outcome=IngestOutcome.INGEST_OUTCOME_ACCEPTED))


FAULTY_SERVICE: dict[str, tuple[str, Callable[..., Message], type[Message]]] = {
    "MessageArchive": ("GetQuarantined", find_entry, GetQuarantinedRequest),
    "ChannelDirectory": ("GetChannel", lambda *_: GetChannelResponse(), GetChannelRequest),
    "MessageIngest": ("Ingest", ingest_all_but_one, IngestRequest),
}


def test_an_entry_that_the_service_fails_on_stays_and_blocks_no_other() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    for name, (call, answer, request) in FAULTY_SERVICE.items():
        handler: grpc.RpcMethodHandler[Message, Message] = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"aicc.mo.v1.{name}", {call: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        shown = Mo(f"127.0.0.1:{port}")("quarantine", "retry", "SM1", "SM2", code=1)
    finally:
        server.stop(None).wait()
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [["SM1", "stays"], ["SM2", "accepted"]]
    assert "failed on it with INTERNAL" in shown.stdout


def test_what_was_retried_before_the_service_went_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Retry.retry

    async def retry_and_kill(retry: Retry, entry_id: str) -> Retried:
        result = await original(retry, entry_id)
        process.kill()
        return result

    with running_service(tmp_path) as process:
        mo = Mo(process.listen)
        mo.create_channel("cut")
        mo.quarantine("cut", c1=VALID % b"SM1", c2=VALID % b"SM2")
        monkeypatch.setattr(Retry, "retry", retry_and_kill)
        shown = mo("quarantine", "retry", "c1", "c2", code=1)
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [["c1", "accepted"]]
    assert "can't be reached" in shown.stderr


@pytest.mark.parametrize("arguments", [[], ["q1", "--all"], ["--all", "--channel", "C1"]])
def test_a_selection_must_be_clear(mo: Mo, arguments: list[str]) -> None:
    for verb in ("retry", "discard"):
        assert "Give either" in mo("quarantine", verb, *arguments, code=2).stderr
