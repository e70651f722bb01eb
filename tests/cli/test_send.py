"""`mo send` plays Twilio: its form is a real one, and it authenticates when challenged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from shim.cli.twilio_form import Draft, build_form, new_sid, whatsapp_address
from shim.cli.twilio_post import Webhook
from tests.cli.commands import Mo
from tests.processes import Process, running_shim

SID = "SM" + "0" * 32
CAPTURES = {
    capture["name"]: capture["form"]
    for capture in json.loads(Path(__file__).parents[1].joinpath("fixtures/twilio-payloads.json").read_text())
}


@dataclass(frozen=True)
class Sender:
    """Posts to the webhook of a channel whose password it knows."""

    mo: Mo
    shim: str
    password: str

    def url(self, channel: str = "sent") -> str:
        return f"http://{self.shim}/social/on/whatsapp/twilio/message/{channel}"

    def __call__(self, *options: str, code: int = 0, password: str = "") -> Any:
        login = ("--user", "twilio", "--password-stdin")
        return self.mo("send", self.url(), *login, *options, stdin=password or self.password, code=code)


@pytest.fixture(scope="module")
def send(mo: Mo, service: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    options = ("--user", "twilio", "--generate-password", "--destination", "sent", "--json")
    password = mo("channel", "create", "sent", *options).object["generated_password"]
    with running_shim(tmp_path_factory.mktemp("shim"), service=service.listen) as shim:
        shim.wait_for_event("directory_received")
        yield Sender(mo, shim.listen, password)


@pytest.mark.parametrize(
    ("capture", "draft"),
    [
        ("text", Draft()),
        ("image-no-caption", Draft(message_type="image")),
        ("video-interface-spelling", Draft(message_type="VEDIO")),
        ("document", Draft(message_type="document")),
        ("contacts", Draft(message_type="contacts")),
        ("location-pin", Draft(message_type="location")),
        ("location-place", Draft(message_type="LOCATION", address="a", label="l")),
        ("reply", Draft(reply_to="SM1")),
        ("button-template", Draft(message_type="button")),
        ("username-only", Draft(sender="whatsapp:GB.7781234567890123456")),
        ("unknown-type", Draft(message_type="hologram")),
    ],
)
def test_a_form_has_the_parameters_of_a_real_one(capture: str, draft: Draft) -> None:
    form = build_form(draft, new_sid(draft.message_type, "0" * 32))
    assert sorted(name for name, _ in form) == sorted(CAPTURES[capture])
    assert dict(form)["MessageType"] == draft.message_type
    assert dict(form)["MessageSid"][:2] == CAPTURES[capture]["MessageSid"][:2]
    assert dict(form)["NumMedia"] == CAPTURES[capture]["NumMedia"]


def test_any_parameter_can_be_set_repeated_or_left_out() -> None:
    draft = Draft(parameters=[("Body", ""), ("New", "1"), ("New", "2")], without=["MessageType", "ProfileName"])
    form = build_form(draft, SID)
    assert [value for name, value in form if name == "Body"] == [""]
    assert [value for name, value in form if name == "New"] == ["1", "2"]
    assert not {"MessageType", "ProfileName"} & dict(form).keys()


def test_a_bare_number_becomes_a_whatsapp_address() -> None:
    assert whatsapp_address("+447700900123") == "whatsapp:+447700900123"
    assert whatsapp_address("whatsapp:GB.1") == "whatsapp:GB.1"


def test_credentials_are_taken_out_of_the_url_and_the_fragment_is_not_sent() -> None:
    webhook = Webhook.from_url("https://a%40b:p%3Aw@h:8443/x/y#rc=2&rp=ct")
    assert webhook.credentials == ("a@b", "p:w")
    assert (webhook.is_tls, webhook.host, webhook.port, webhook.path) == (True, "h", 8443, "/x/y")


def test_a_message_is_sent_without_credentials_first_and_arrives(send: Sender) -> None:
    shown = send("--body", "over the wire", "--json").object
    assert [request["status"] for request in shown["requests"]] == [401, 204]
    assert shown["accepted"] is True
    (line,) = send.mo("feed", "pull", "sent", "--ack").objects
    assert line["message"]["message_sid"] == shown["message_sid"]
    assert line["message"]["body"] == "over the wire"


def test_credentials_can_be_sent_at_once_and_stand_in_the_url(send: Sender) -> None:
    url = send.url().replace("http://", f"http://twilio:{send.password}@")
    shown = send.mo("send", url, "--no-challenge", "--json").object
    assert [request["status"] for request in shown["requests"]] == [204]


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("image", "IMAGE"), ("VEDIO", "VIDEO"), ("audio", "AUDIO"), ("location", "LOCATION"), ("sticker", "STICKER")],
)
def test_every_type_of_message_is_understood(send: Sender, kind: str, stored: str) -> None:
    sid = send("--type", kind, "--json").object["message_sid"]
    message = send.mo("message", "show", "sent", sid, "--json").object["message"]
    assert message["message_type"] == f"MESSAGE_TYPE_{stored}"


def test_a_repeated_message_is_stored_once(send: Sender) -> None:
    shown = send("--count", "3", "--repeat-sid", "--sid", "SM-repeated", "--json")
    assert [line["accepted"] for line in shown.objects] == [True, True, True]
    assert "3 of 3 accepted" in shown.stderr
    listed = send.mo("message", "list", "--channel", "sent", "--limit", "1000", "--json").objects
    assert [line["message"]["message_sid"] for line in listed].count("SM-repeated") == 1


def test_many_messages_have_an_id_each(send: Sender) -> None:
    lines = send("--count", "20", "--json").objects
    assert len({line["message_sid"] for line in lines}) == 20
    assert "--repeat-sid" in send("--count", "2", "--sid", "SM1", code=2).stderr


def test_a_refused_message_fails_with_every_field_named(send: Sender) -> None:
    shown = send("--without", "From", "--param", "To=", code=1)
    assert "401 400" in shown.stdout
    assert "From" in shown.stderr
    assert "To" in shown.stderr


def test_wrong_and_missing_credentials_are_told_apart(send: Sender) -> None:
    assert "wrong" in send(password="not-the-password", code=1).stderr
    assert "--password-stdin" in send.mo("send", send.url(), code=1).stderr
    assert "go together" in send.mo("send", send.url(), "--user", "u", code=2).stderr


def test_a_shim_that_is_not_there_is_said_without_the_credentials_of_the_url(mo: Mo) -> None:
    shown = mo("send", "http://u:hush-hush@127.0.0.1:1/x", code=1)
    assert "127.0.0.1:1" in shown.stderr
    assert "hush-hush" not in shown.stderr


class Careless(BaseHTTPRequestHandler):
    """A webhook that does what Twilio takes amiss."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401 if "challenge" in self.path else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def careless() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://u:p@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_twilio_would_take_amiss_is_remarked_upon(mo: Mo, careless: str) -> None:
    assert "without asking for credentials" in mo("send", f"{careless}/ok").stderr
    assert "text/plain" in mo("send", f"{careless}/ok", "--no-challenge").stderr
    assert "realm" in mo("send", f"{careless}/challenge", code=1).stderr


def test_a_terminal_gets_a_progress_bar_and_the_pipe_the_results(send: Sender) -> None:
    controller, terminal = os.openpty()
    command = [sys.executable, "-m", "shim.cli", "send", send.url(), "--user", "twilio", "--password-stdin"]
    with subprocess.Popen(
        [*command, "--count", "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env=send.mo.env | {"TERM": "xterm"},
    ) as process:
        stdout, _ = process.communicate(send.password, timeout=60)
    os.close(terminal)
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    assert len(stdout.splitlines()) == 3, shown
    assert "sending" in shown
    assert "100%" in shown
