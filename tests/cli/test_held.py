"""`mo held` and `mo message re-route` against a real service."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.commands import Mo


def listed(mo: Mo, *options: str) -> list[str]:
    return [line["message"]["message_sid"] for line in mo("held", "list", *options, "--json").objects]


def pulled(mo: Mo, destination: str) -> list[str]:
    lines = mo("feed", "pull", destination, "--max", "5000", "--ack").objects
    return [line["message"]["message_sid"] for line in lines]


def hold(mo: Mo, channel: str, *sids: str) -> None:
    """Create a channel without a destination, and let it hold messages of one conversation."""
    mo.create_channel(channel, "--no-destination")
    mo.ingest(channel, *sids)


def give_destination(mo: Mo, channel: str) -> None:
    mo("channel", "update", channel, "--destination", channel)


def test_held_messages_are_listed_by_channel_and_by_reason_without_their_text(mo: Mo) -> None:
    hold(mo, "listed", "SM1", "SM2")
    mo.create_channel("listed-too", "--pause")
    mo.ingest("listed-too", "SM3")
    assert listed(mo, "--channel", "listed") == ["SM2", "SM1"]
    assert listed(mo, "--channel", "listed", "--limit", "1") == ["SM2"]
    assert listed(mo, "--reason", "channel-paused") == ["SM3"]
    assert listed(mo, "--channel", "listed", "--reason", "channel-paused") == []
    assert "Hello" not in mo("held", "list").stdout
    assert "Hello" in mo("held", "list", "--include-text").stdout


def test_only_a_held_message_is_shown(mo: Mo) -> None:
    hold(mo, "shown-held", "SM1")
    assert "held: unrouted" in mo("held", "show", "shown-held", "SM1").stdout
    assert "Hello" in mo("held", "show", "shown-held", "SM1", "--include-text").stdout
    mo.create_channel("shown-pending")
    mo.ingest("shown-pending", "SM1")
    assert "not held: it is pending" in mo("held", "show", "shown-pending", "SM1", code=1).stderr


def test_what_was_held_is_released_by_todays_routes_in_its_original_order(mo: Mo) -> None:
    hold(mo, "released", "SM1", "SM2", "SM3")
    give_destination(mo, "released")
    assert mo("held", "release", "--channel", "released", "--json").object == {"released": 3, "still_held": 0}
    assert pulled(mo, "released") == ["SM1", "SM2", "SM3"]
    assert listed(mo, "--channel", "released") == []


def test_more_than_a_page_is_released_completely_and_each_conversation_in_its_order(mo: Mo) -> None:
    conversations = {
        f"whatsapp:+44770090{sender:04}": [f"SM{sender}-{number}" for number in range(60)] for sender in range(25)
    }
    mo.create_channel("pages", "--no-destination")
    for sender, sids in conversations.items():
        mo.ingest("pages", *sids, sender=sender)
    give_destination(mo, "pages")
    assert mo("held", "release", "--channel", "pages", "--json").object == {"released": 1_500, "still_held": 0}
    found: dict[str, list[str]] = {}
    for line in mo("feed", "pull", "pages", "--max", "5000", "--ack").objects:
        found.setdefault(line["message"]["sender"], []).append(line["message"]["message_sid"])
    assert found == conversations


def test_what_no_route_wants_stays_held_and_it_is_said_why(mo: Mo) -> None:
    hold(mo, "unwanted", "SM1")
    shown = mo("held", "release", "unwanted", "SM1", "SM1", code=1)
    assert shown.stdout.split() == ["released", "0", "still", "held", "1"]
    assert "--destination" in shown.stderr
    alike = mo("held", "release", "--channel", "unwanted", "--reason", "unrouted", "--json", code=1)
    assert alike.object == {"released": 0, "still_held": 1}
    assert mo("held", "release", "unwanted", "SM1", "--destination", "desk", "--json").object["released"] == 1
    assert pulled(mo, "desk") == ["SM1"]


def test_messages_are_re_routed_whether_held_or_not(mo: Mo) -> None:
    hold(mo, "re-routed", "SM1", "SM2", "SM3")
    give_destination(mo, "re-routed")
    mo.ingest("re-routed", "SM4")
    shown = mo("message", "re-route", "re-routed", "SM3", "SM1", "SM1", "SM4", "SM5", "--json", code=1)
    assert [(each["message_sid"], each["outcome"].removeprefix("RE_ROUTE_OUTCOME_")) for each in shown.objects] == [
        ("SM3", "RELEASED"),
        ("SM1", "RELEASED"),
        ("SM4", "UNCHANGED"),
        ("SM5", "NOT_FOUND"),
    ]
    assert pulled(mo, "re-routed") == ["SM1", "SM3", "SM4"]
    assert listed(mo, "--channel", "re-routed") == ["SM2"]
    table = mo("message", "re-route", "re-routed", "SM2").stdout.split()
    assert table[-4:] == ["SM2", "released", "-", "re-routed"]


def test_discarding_needs_a_yes_and_keeps_the_message_in_the_archive(mo: Mo) -> None:
    hold(mo, "discarded", "SM1", "SM2")
    refused = mo("held", "discard", "--channel", "discarded", code=1)
    assert "--yes" in refused.stderr
    assert mo("held", "discard", "discarded", "SM1", "--yes", "--json").object == {"discarded": 1}
    assert mo("message", "show", "discarded", "SM1", "--json").object["state"] == "MESSAGE_STATE_DISCARDED"
    assert "discarded" in mo("message", "list", "--channel", "discarded", "--state", "discarded").stdout
    assert listed(mo, "--channel", "discarded") == ["SM2"]
    assert "not held: it is discarded" in mo("held", "discard", "discarded", "SM1", "--yes", code=1).stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_a_person_is_asked_before_many_are_settled(mo: Mo, answer: str, code: int) -> None:
    channel = f"asked-{answer}"
    hold(mo, channel, "SM1")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "shim.cli", "held", "discard", "--channel", channel]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True, env=mo.env) as asking:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, stderr = asking.communicate(timeout=60)
    os.close(ours)
    assert asking.returncode == code, stderr
    assert f'all held messages of channel "{channel}"' in stderr
    assert listed(mo, "--channel", channel) == (["SM1"] if code else [])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "Give either"),
        (["C1"], "at least one SID"),
        (["C1", "SM1", "--all"], "Give either"),
        (["--all", "--channel", "C1"], "Give either"),
        (["--reason", "boredom"], "'boredom' is not one of"),
    ],
    ids=["nothing", "a channel alone", "named and all", "all and a channel", "an unknown reason"],
)
def test_a_selection_must_be_clear(mo: Mo, arguments: list[str], fault: str) -> None:
    for verb in ("release", "discard"):
        assert fault in mo("held", verb, *arguments, code=2).stderr
