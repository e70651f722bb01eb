"""`mo message replay` and `mo replay`: against a real service, and against one that loses an answer."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import grpc
import pytest
from aicc.mo.v1.message_feed_pb2 import (
    ListDestinationsRequest,
    ListDestinationsResponse,
    Replay,
    StartReplayRequest,
    StartReplayResponse,
)

from shim.cli import replays
from tests.cli.commands import CommandLine, Mo
from tests.cli.fake_service import fake_service


@pytest.fixture(autouse=True)
def _watch_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "POLL_SECONDS", 0.02)


def fill(mo: Mo, name: str, count: int) -> None:
    """Create a channel and a destination of that name, and have `count` messages of one person acknowledged."""
    mo.create_channel(name, "--destination", name)
    mo.ingest(name, *[f"SM{number}" for number in range(count)])
    assert len(mo("feed", "pull", name, "--max", "1000", "--ack").objects) == count


def test_acknowledged_messages_come_again_in_order_and_marked(mo: Mo) -> None:
    fill(mo, "again", 3)
    command = ["message", "replay", "desk", "--channel", "again", "--rate", "1000", "--operator", "ada"]
    replay = mo(*command, "--json").object
    assert (replay["total"], replay["queued"], replay["requested_by"]) == ("3", "3", "ada")
    assert replay["end_time"]
    lines = mo("feed", "pull", "desk", "--ack").objects
    assert [line["message"]["message_sid"] for line in lines] == ["SM0", "SM1", "SM2"]
    assert all(line["replayed"] for line in lines)


def test_a_dry_run_counts_and_starts_nothing(mo: Mo) -> None:
    fill(mo, "counted", 4)
    before = mo("replay", "list").stdout
    shown = mo("message", "replay", "counted", "--channel", "counted", "--dry-run")
    assert ["total", "4"] in [line.split() for line in shown.stdout.splitlines()]
    assert mo("message", "replay", "counted", "--since", "1h", "--dry-run", "--json").object["total"] != "0"
    assert mo("replay", "list").stdout == before


def test_messages_are_chosen_by_sender_and_time(mo: Mo) -> None:
    fill(mo, "chosen", 2)
    mo.ingest("chosen", "SM9", sender="whatsapp:+447700900199")
    mo("feed", "pull", "chosen", "--ack")
    count = ["message", "replay", "desk", "--channel", "chosen", "--dry-run", "--json"]
    assert mo(*count).object["total"] == "3"
    assert mo(*count, "--sender", "whatsapp:+447700900199").object["total"] == "1"
    assert mo(*count, "--route", "no-such").object["total"] == "0"
    assert mo(*count, "--until", "1h").object["total"] == "0"
    assert mo(*count, "--since", "1h", "--until", "2030-01-01").object["total"] == "3"


def test_nothing_to_replay_starts_nothing_and_is_said(mo: Mo) -> None:
    mo.create_channel("none")
    shown = mo("message", "replay", "desk", "--channel", "none", "--yes", "--json")
    assert shown.object["total"] == "0"
    assert "nothing was started" in shown.stderr


def test_a_destination_that_nobody_knows_may_be_a_slip(mo: Mo) -> None:
    fill(mo, "known", 1)
    shown = mo("message", "replay", "knwon", "--channel", "known", "--dry-run")
    assert '"knwon"' in shown.stderr
    assert "known" in shown.stderr.partition("there are:")[2]


def test_a_detached_replay_is_watched_and_shown_later(mo: Mo) -> None:
    fill(mo, "detached", 2)
    started = mo("message", "replay", "away", "--channel", "detached", "--detach", "--yes", "--json")
    replay_id = started.object["replay_id"]
    assert f"mo replay watch {replay_id}" in started.stderr
    watched = mo("replay", "watch", replay_id, "--json").object
    assert (watched["queued"], watched["destination"]) == ("2", "away")
    shown = mo("replay", "show", replay_id).stdout
    assert "channel detached" in shown
    assert "2 of 2" in shown
    assert "done" in shown
    assert mo("replay", "list", "--limit", "1", "--json").object["replay_id"] == replay_id


def test_ctrl_c_ends_the_watching_and_not_the_replay_which_a_cancel_ends(mo: Mo) -> None:
    fill(mo, "long", 200)
    command = ["message", "replay", "slow", "--channel", "long", "--rate", "1", "--yes"]
    with mo.start(*command) as watching:
        assert watching.stderr is not None
        while "watching replay" not in (line := watching.stderr.readline()):
            assert line
        replay_id = line.split()[3].rstrip(";")
        watching.send_signal(signal.SIGINT)
        stdout, stderr = watching.communicate(timeout=60)
    assert (watching.returncode, stdout) == (130, "")
    assert f"the replay goes on; watch it with: mo replay watch {replay_id}" in stderr
    assert "going on" in mo("replay", "show", replay_id).stdout
    assert "cancelled" in mo("replay", "cancel", replay_id).stdout
    assert "cancelled" in mo("replay", "watch", replay_id, code=1).stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_the_number_is_told_and_a_person_is_asked(mo: Mo, answer: str, code: int) -> None:
    name = f"asked-{answer}"
    fill(mo, name, 3)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "shim.cli", "message", "replay", name, "--channel", name, "--detach"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=mo.env
    ) as asking:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, stderr = asking.communicate(timeout=60)
    os.close(ours)
    assert asking.returncode == code, stderr
    assert f'Replaying 3 messages to "{name}"' in stderr
    assert ("nothing was done" in stderr) == bool(code)


def test_a_watched_replay_shows_a_bar_on_a_terminal(mo: Mo) -> None:
    fill(mo, "barred", 5)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "shim.cli", "message", "replay", "barred", "--channel", "barred", "--yes"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, text=True, env=mo.env
    ) as process:
        stdout, _ = process.communicate(timeout=60)
    os.close(terminal)
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    assert "5 of 5" in stdout
    assert "replaying" in shown
    assert "100%" in shown


def test_when_the_answer_gets_lost_the_way_to_find_out_is_told() -> None:
    ids: list[str] = []

    def lose_answer(request: StartReplayRequest, context: grpc.ServicerContext) -> StartReplayResponse:
        ids.append(request.replay_id)
        if not request.is_dry_run:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the store is away")
        return StartReplayResponse(replay=Replay(destination="desk", total=7))

    with fake_service(
        MessageFeed_StartReplay=(StartReplayRequest, lose_answer),
        MessageFeed_ListDestinations=(ListDestinationsRequest, lambda *_: ListDestinationsResponse()),
    ) as mo:
        shown = mo("message", "replay", "desk", "--since", "1h", "--yes", code=1)
    counted, started = ids
    assert counted == started
    assert "the store is away" in shown.stderr
    assert f"mo replay show {started}" in shown.stderr


def test_a_replay_that_is_not_there_is_said_in_one_line(mo: Mo) -> None:
    for verb in ("show", "watch", "cancel"):
        shown = mo("replay", verb, "no-such-replay", code=1)
        assert len(shown.stderr.splitlines()) == 1


def test_what_to_replay_must_be_clear_and_every_fault_is_named(command_line: CommandLine) -> None:
    assert "give --channel, --since or --until" in command_line("message", "replay", "desk").stderr
    shown = command_line(
        *("message", "replay", "desk", "--sender", "whatsapp:+447700900123", "--rate", "0"),
        *("--since", "1h", "--until", "2h", "--dry-run", "--detach"),
    )
    assert shown.code == 2
    for part in ("need --channel", "--rate", "not after --since", "--dry-run starts nothing"):
        assert part in shown.stderr
    assert "447700900123" not in shown.stderr
