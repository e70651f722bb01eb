"""`mo message erase-sender`: against a real service, and against one that needs several calls or fails."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import grpc
import pytest
from aicc.mo.v1.message_archive_pb2 import EraseSenderRequest, EraseSenderResponse

from tests.cli.commands import Mo
from tests.cli.fake_service import Answer, fake_service

SENDER = "whatsapp:+447700900123"
OTHER = "whatsapp:+447700900199"


def test_a_sender_is_erased_and_nobody_else(mo: Mo) -> None:
    mo.create_channel("erased", "--destination", "erased")
    mo.ingest("erased", "SM1", "SM2")
    mo.ingest("erased", "SM3", sender=OTHER)
    erased = mo("message", "erase-sender", "erased", SENDER, "--yes", "--json").object
    assert (erased["messages"], erased["deliveries"], erased["is_complete"]) == ("2", "2", True)
    left = mo("message", "list", "--channel", "erased", "--json").objects
    assert [item["message"]["message_sid"] for item in left] == ["SM3"]
    assert "no such message" in mo("message", "show", "erased", "SM1", code=1).stderr


def test_a_sender_of_whom_there_is_nothing_is_remarked_upon_with_a_short_number(mo: Mo) -> None:
    mo.create_channel("without")
    shown = mo("message", "erase-sender", "without", SENDER, "--yes")
    assert ["messages", "0"] in [line.split() for line in shown.stdout.splitlines()]
    assert "+4477…23" in shown.stderr
    assert "447700900123" not in shown.stderr


def test_it_needs_a_yes(mo: Mo) -> None:
    mo.create_channel("kept")
    mo.ingest("kept", "SM1")
    shown = mo("message", "erase-sender", "kept", SENDER, code=1)
    assert "--yes" in shown.stderr
    assert "447700900123" not in shown.stderr
    assert mo("message", "show", "kept", "SM1").code == 0


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_a_person_is_asked(mo: Mo, answer: str, code: int) -> None:
    channel = f"asked-{answer}"
    mo.create_channel(channel)
    mo.ingest(channel, "SM1")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "shim.cli", "message", "erase-sender", channel, SENDER]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=mo.env
    ) as asking:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, stderr = asking.communicate(timeout=60)
    os.close(ours)
    assert asking.returncode == code, stderr
    assert f'of whatsapp:+4477…23 in channel "{channel}"' in stderr
    assert len(mo("message", "list", "--channel", channel, "--json").objects) == code


def erasing(*steps: EraseSenderResponse | grpc.StatusCode) -> tuple[type[EraseSenderRequest], Answer]:
    """Answer each call with the next step."""
    left = list(steps)

    def answer(_request: EraseSenderRequest, context: grpc.ServicerContext) -> EraseSenderResponse:
        step = left.pop(0)
        if isinstance(step, EraseSenderResponse):
            return step
        context.abort(step, "the store is away")
        raise AssertionError("unreachable: abort raises")

    return EraseSenderRequest, answer


def test_it_goes_on_until_nothing_is_left_and_adds_up() -> None:
    steps = (
        EraseSenderResponse(messages=10_000, deliveries=3, clashes=1),
        EraseSenderResponse(messages=7, dead_letters=2, held=4, quarantined=5, is_complete=True),
    )
    with fake_service(MessageArchive_EraseSender=erasing(*steps)) as mo:
        erased = mo("message", "erase-sender", "C1", SENDER, "--yes", "--json").object
    assert erased == {
        "messages": "10007",
        "deliveries": "3",
        "dead_letters": "2",
        "held": "4",
        "clashes": "1",
        "quarantined": "5",
        "is_complete": True,
    }


def test_what_was_erased_before_a_failure_is_told() -> None:
    steps = (EraseSenderResponse(messages=10_000), grpc.StatusCode.UNAVAILABLE)
    with fake_service(MessageArchive_EraseSender=erasing(*steps)) as mo:
        shown = mo("message", "erase-sender", "C1", SENDER, "--yes", code=1)
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["messages", "10000"] in lines
    assert ["complete", "no"] in lines
    assert "the store is away" in shown.stderr
