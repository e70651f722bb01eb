"""`mo feed` against a real service: what is printed can be acknowledged, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.cli.commands import Mo


def sids(lines: list[dict[str, object]]) -> list[object]:
    return [line["message"]["message_sid"] for line in lines]  # type: ignore[index]


def senders(count: int) -> list[str]:
    return [f"whatsapp:+4477009001{number:02}" for number in range(count)]


def backlog(mo: Mo, destination: str) -> tuple[int, int]:
    """How many wait, and how many of them are leased."""
    found = {line["name"]: line for line in mo("status", "--json").object["destinations"]}
    return int(found[destination]["backlog"]), int(found[destination]["leased"])


def fill(mo: Mo, name: str, count: int) -> None:
    """Create a channel and a destination of that name, with a message of each of `count` people."""
    mo.create_channel(name, "--destination", name)
    for number, sender in enumerate(senders(count)):
        mo.ingest(name, f"SM{number}", sender=sender)


def test_a_pull_prints_one_delivery_a_line_and_leases_no_more_than_it_prints(mo: Mo) -> None:
    fill(mo, "leased", 5)
    lines = mo("feed", "pull", "leased", "--max", "3").objects
    assert len(lines) == 3
    assert all(line["ack_id"] and line["delivery_attempt"] == 1 for line in lines)
    assert lines[0]["message"]["body"] == "Hello"
    assert backlog(mo, "leased") == (5, 3)


def test_an_acknowledging_pull_goes_through_a_conversation_in_order(mo: Mo) -> None:
    mo.create_channel("ordered", "--destination", "ordered")
    mo.ingest("ordered", *[f"SM{number}" for number in range(8)])
    assert sids(mo("feed", "pull", "ordered", "--max", "5", "--ack").objects) == [f"SM{number}" for number in range(5)]
    assert sids(mo("feed", "pull", "ordered", "--ack").objects) == ["SM5", "SM6", "SM7"]
    assert backlog(mo, "ordered") == (0, 0)


def test_nothing_to_pull_prints_nothing_and_is_no_error(mo: Mo) -> None:
    mo.create_channel("empty", "--destination", "empty")
    mo.ingest("empty", "SM1")
    mo("feed", "pull", "empty", "--ack")
    shown = mo("feed", "pull", "empty")
    assert (shown.stdout, shown.stderr) == ("", "")


def test_a_destination_that_nothing_names_is_remarked_upon(mo: Mo) -> None:
    shown = mo("feed", "pull", "nobody-knows")
    assert shown.stdout == ""
    assert "nobody-knows" in shown.stderr


def test_a_waiting_pull_prints_what_comes_and_ends_at_its_maximum(mo: Mo) -> None:
    mo.create_channel("awaited", "--destination", "awaited")
    with mo.start("feed", "pull", "awaited", "--wait", "100", "--max", "2", "--ack") as pull:
        assert pull.stdout is not None
        mo.ingest("awaited", "SM1")
        assert '"SM1"' in pull.stdout.readline()
        mo.ingest("awaited", "SM2")
        assert '"SM2"' in pull.stdout.readline()
        assert pull.wait(60) == 0


def test_an_interrupted_pull_ends_quietly_with_130(mo: Mo) -> None:
    fill(mo, "interrupted", 1)
    with mo.start("feed", "pull", "interrupted", "--wait", "100", "--max", "2") as pull:
        assert pull.stdout is not None
        assert pull.stdout.readline()
        pull.send_signal(signal.SIGINT)
        _, stderr = pull.communicate(timeout=60)
    assert (pull.returncode, stderr.strip()) == (130, "")


def test_what_could_not_be_printed_is_not_acknowledged(mo: Mo) -> None:
    fill(mo, "broken", 3)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "shim.cli", "feed", "pull", "broken", "--ack"]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=mo.env) as pull:
        os.close(writing)
        _, stderr = pull.communicate(timeout=60)
    assert stderr == ""
    assert pull.returncode == 1
    assert backlog(mo, "broken") == (3, 3)


def test_acknowledging_says_for_each_what_became_of_it(mo: Mo) -> None:
    fill(mo, "settled", 2)
    first, second = [line["ack_id"] for line in mo("feed", "pull", "settled").objects]
    assert mo("feed", "ack", "settled", first).stdout.split() == ["ok", first]
    shown = mo("feed", "ack", "settled", first, second, "no-such-id", code=1)
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["stale", first],
        ["ok", second],
        ["unknown", "no-such-id"],
    ]
    assert mo("feed", "ack", "settled", second, "--json", code=1).object == {
        "ack_id": second,
        "status": "ACK_STATUS_STALE",
    }


def test_text_cannot_break_the_line_or_reach_the_terminal_as_a_command(mo: Mo) -> None:
    mo.create_channel("nasty", "--destination", "nasty")
    body = "\x1b[31m\u2028\n\x9b \u202e 👋"
    mo.ingest("nasty", "SM1", body=body)
    shown = mo("feed", "pull", "nasty", "--ack")
    assert shown.object["message"]["body"] == body
    assert shown.stdout.isascii()
    assert "\x1b" not in mo("message", "show", "nasty", "SM1", "--include-text").stdout
