"""`mo dead-letter` against a real service."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.commands import CommandLine, Mo
from tests.cli.dead import dead_letter, nack


def listed(mo: Mo, *options: str) -> list[str]:
    return [line["message"]["message_sid"] for line in mo("dead-letter", "list", *options, "--json").objects]


def pulled(mo: Mo, destination: str) -> list[str]:
    lines = mo("feed", "pull", destination, "--max", "5000", "--ack").objects
    return [line["message"]["message_sid"] for line in lines]


def test_they_are_listed_newest_first_with_the_reason_and_without_their_text(mo: Mo) -> None:
    dead_letter(mo, "listed", "SM1", "SM2")
    dead_letter(mo, "listed-too", "SM3")
    assert listed(mo, "--destination", "listed") == ["SM2", "SM1"]
    assert listed(mo, "--channel", "listed-too") == ["SM3"]
    assert listed(mo, "--destination", "listed", "--limit", "1") == ["SM2"]
    shown = mo("dead-letter", "list").stdout
    assert shown.splitlines()[0].split()[:4] == ["DEAD", "SINCE", "DESTINATION", "CHANNEL"]
    assert "attempt" in shown
    assert "Hello" not in shown
    assert "Hello" in mo("dead-letter", "list", "--include-text").stdout


def test_one_is_shown_with_each_attempt_that_failed(mo: Mo) -> None:
    dead_letter(mo, "shown", "SM1")
    shown = mo("dead-letter", "show", "shown", "shown", "SM1").stdout
    header, attempt = (line.split() for line in shown.splitlines()[-2:])
    assert header == ["ATTEMPT", "HANDED", "OUT", "ENDED", "OUTCOME"]
    assert (attempt[0], attempt[-1]) == ("1", "nacked")
    assert "Hello" not in shown
    assert "Hello" in mo("dead-letter", "show", "shown", "shown", "SM1", "--include-text").stdout
    (whole,) = mo("dead-letter", "show", "shown", "shown", "SM1", "--json").objects
    assert whole["attempts"][0]["outcome"] == "ATTEMPT_OUTCOME_NACKED"


def test_one_that_is_not_there_is_said(mo: Mo) -> None:
    dead_letter(mo, "missing", "SM1")
    shown = mo("dead-letter", "show", "other", "missing", "SM1", code=1)
    assert "no dead letter" in shown.stderr
    assert "mo message trace missing SM1" in shown.stderr


def test_redriven_ones_come_first_and_in_their_order(mo: Mo) -> None:
    dead_letter(mo, "redriven", "SM1", "SM2")
    mo.ingest("redriven", "SM3")
    assert mo("dead-letter", "redrive", "--destination", "redriven", "--json").object == {"redriven": 2}
    assert pulled(mo, "redriven") == ["SM1", "SM2", "SM3"]
    assert listed(mo, "--destination", "redriven") == []


def test_named_ones_are_redriven_and_those_that_are_not_there_are_named(mo: Mo) -> None:
    dead_letter(mo, "named", "SM1", "SM2")
    arguments = ["redrive", "named", "named", "SM1", "SM1", "SM404"]
    shown = mo("dead-letter", *arguments, code=1)
    assert shown.stdout.split() == ["redriven", "1"]
    (fault,) = shown.stderr.splitlines()
    assert '"SM404" is no dead letter of destination "named"' in fault
    assert pulled(mo, "named") == ["SM1"]
    assert listed(mo, "--channel", "named") == ["SM2"]


def test_more_than_a_page_is_redriven_completely(mo: Mo) -> None:
    mo.create_channel("pages", "--destination", "pages")
    mo("destination", "update", "pages", "--max-attempts", "1", "--unordered")
    sids = [f"SM{number}" for number in range(1_200)]
    for half in (sids[:600], sids[600:]):
        mo.ingest("pages", *half)
    while nack(mo, "pages"):
        pass
    assert len(listed(mo, "--channel", "pages", "--limit", "5000")) == 1_200
    assert mo("dead-letter", "redrive", "--channel", "pages", "--json").object == {"redriven": 1_200}
    assert set(pulled(mo, "pages")) == set(sids)


def test_discarding_needs_a_yes_and_keeps_the_message_in_the_archive(mo: Mo) -> None:
    dead_letter(mo, "discarded", "SM1", "SM2")
    assert "--yes" in mo("dead-letter", "discard", "--channel", "discarded", code=1).stderr
    shown = mo("dead-letter", "discard", "discarded", "discarded", "SM1", "--yes", "--json")
    assert shown.object == {"discarded": 1}
    assert "discarded after 1 attempt" in mo("message", "show", "discarded", "SM1").stdout
    assert listed(mo, "--destination", "discarded") == ["SM2"]
    again = mo("dead-letter", "discard", "discarded", "discarded", "SM1", "--yes", code=1)
    assert "no dead letter" in again.stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_a_person_is_asked_before_many_are_redriven(mo: Mo, answer: str, code: int) -> None:
    name = f"asked-{answer}"
    dead_letter(mo, name, "SM1")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "shim.cli", "dead-letter", "redrive", "--destination", name]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=mo.env
    ) as asking:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, stderr = asking.communicate(timeout=60)
    os.close(ours)
    assert asking.returncode == code, stderr
    assert f'all dead letters of destination "{name}"' in stderr
    assert listed(mo, "--destination", name) == (["SM1"] if code else [])


def test_status_tells_of_them_and_what_to_do(mo: Mo) -> None:
    dead_letter(mo, "told", "SM1", "SM2")
    shown = mo("status").stdout
    assert "2 of told; see: mo dead-letter list --destination told" in shown
    assert "degraded" not in shown
    (found,) = [item for item in mo("status", "--json").object["destinations"] if item["name"] == "told"]
    assert found["dead_letters"] == "2"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "Give either"),
        (["bot"], "at least one SID"),
        (["bot", "C1"], "at least one SID"),
        (["bot", "C1", "SM1", "--all"], "Give either"),
        (["--all", "--channel", "C1"], "Give either"),
        (["bot", "C1", *[f"SM{number}" for number in range(1_001)]], "1000 SIDs"),
    ],
    ids=["nothing", "a destination alone", "without ids", "named and all", "all and a channel", "too many"],
)
def test_a_selection_must_be_clear(command_line: CommandLine, arguments: list[str], fault: str) -> None:
    for verb in ("redrive", "discard"):
        shown = command_line("dead-letter", verb, *arguments)
        assert shown.code == 2
        assert fault in shown.stderr
