"""`mo destination` against a real service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aicc.mo.v1.message_feed_pb2 import Destination, ListDestinationsRequest, ListDestinationsResponse

from tests.cli.commands import CommandLine, Mo
from tests.cli.fake_service import fake_service


def test_a_list_tells_what_waits_in_each_and_how_it_flows(mo: Mo) -> None:
    mo.create_channel("listed", "--destination", "listed")
    mo.ingest("listed", "SM1")
    mo.ingest("listed", "SM2", sender="whatsapp:+447700900199")
    mo("feed", "pull", "listed", "--max", "1")
    (found,) = [item for item in mo("destination", "list", "--json").objects if item["name"] == "listed"]
    assert (found["backlog"], found["leased"], found["dead_letters"]) == ("2", "1", "0")
    assert found["in_rate"] > 0
    header, *rows = [line.split() for line in mo("destination", "list").stdout.splitlines()]
    assert header == ["DESTINATION", "BACKLOG", "LEASED", "OLDEST", "IN/S", "OUT/S", "DEAD", "LETTERS", "CONSUMERS"]
    assert [row[:3] for row in rows if row[0] == "listed"] == [["listed", "2", "1"]]


def test_one_is_shown_with_its_settings(mo: Mo) -> None:
    mo.create_channel("shown", "--destination", "shown")
    lines = mo("destination", "show", "shown").stdout.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines if not line.startswith(("dead", "ack", "m")))
    assert shown["destination"] == "shown"
    assert shown["ordered"] == "yes"
    assert shown["retention"] == "30d"
    assert any(line.split() == ["ack", "deadline", "1m"] for line in lines)
    assert any(line.split() == ["min", "backoff", "0.1s"] for line in lines)
    assert mo("destination", "show", "shown", "--json").object["settings"]["max_attempts"] == 10


@pytest.mark.parametrize("command", [("list",), ("show", "bot")], ids=["list", "show"])
def test_what_was_counted_a_while_ago_is_said_to_be(command: tuple[str, ...]) -> None:
    told = ListDestinationsResponse(destinations=[Destination(name="bot", backlog=1_000_000)])
    told.destinations[0].count_time.FromDatetime(datetime.now(UTC) - timedelta(minutes=10, seconds=30))
    with fake_service(MessageFeed_ListDestinations=(ListDestinationsRequest, lambda *_: told)) as mo:
        shown = mo("destination", *command)

    assert "1000000" in shown.stdout
    assert "10m 3" in shown.stderr


@pytest.mark.parametrize(("dead_letters", "says"), [(40_000, ""), (40_001, "ago")], ids=["little", "much"])
def test_of_a_count_time_of_another_clock_nothing_is_said_where_little_waits(dead_letters: int, says: str) -> None:
    told = ListDestinationsResponse(
        destinations=[Destination(name="bot", backlog=60_000), Destination(name="desk", dead_letters=dead_letters)]
    )
    for item in told.destinations:
        item.count_time.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    with fake_service(MessageFeed_ListDestinations=(ListDestinationsRequest, lambda *_: told)) as mo:
        for command in (("list",), ("show", "bot")):
            stderr = mo("destination", *command).stderr
            assert says in stderr
            assert bool(stderr) == bool(says)


def test_of_what_was_counted_just_now_nothing_is_said(mo: Mo) -> None:
    mo.create_channel("counted", "--destination", "counted")

    assert mo("destination", "show", "counted").stderr == ""


def test_one_that_is_not_there_is_said_with_those_that_are(mo: Mo) -> None:
    mo.create_channel("known", "--destination", "known")
    shown = mo("destination", "show", "unknown", code=1)
    assert '"unknown"' in shown.stderr
    assert "known" in shown.stderr.partition("there are:")[2]


def test_only_the_settings_that_are_given_change(mo: Mo) -> None:
    mo.create_channel("changed", "--destination", "changed")
    mo("destination", "update", "changed", "--ack-deadline", "90", "--unordered", "--jitter", "0")
    shown = mo(
        *("destination", "update", "changed", "--max-attempts", "3", "--min-backoff", "0", "--max-backoff", "1.5s"),
        *("--retention", "12h", "--json"),
    )
    assert shown.stderr == ""
    assert shown.object == {
        "name": "changed",
        "settings": {
            "ack_deadline": "90s",
            "max_attempts": 3,
            "min_backoff": "0s",
            "max_backoff": "1.500s",
            "backoff_jitter": 0.0,
            "is_ordered": False,
            "retention": "43200s",
        },
    }
    assert "ordered" in mo("destination", "update", "changed", "--ordered").stdout


def test_settings_of_a_new_name_are_kept_and_remarked_upon(mo: Mo) -> None:
    assert "is new" in mo("destination", "update", "new", "--max-attempts", "3").stderr
    settings = mo("destination", "show", "new", "--json").object["settings"]
    assert (settings["max_attempts"], settings["is_ordered"], settings["backoff_jitter"]) == (3, True, 0.2)
    assert mo("destination", "update", "new", "--max-attempts", "4").stderr == ""


def test_what_the_service_refuses_is_named_all_at_once(mo: Mo) -> None:
    shown = mo("destination", "update", "b d", "--ack-deadline", "0", "--retention", "90s", code=1)
    assert len(shown.stderr.splitlines()) == 3
    for field in ("name", "ack_deadline", "retention"):
        assert field in shown.stderr


def test_values_that_are_none_are_named_all_at_once(command_line: CommandLine) -> None:
    shown = command_line(
        *("destination", "update", "bot", "--max-attempts", "101", "--jitter", "1.1"),
        *("--ack-deadline", "soon", "--retention", "1w"),
    )
    assert shown.code == 2
    for part in ("--max-attempts", "--jitter", "'soon'", "'1w'", "90s, 15m, 24h or 7d"):
        assert part in shown.stderr


@pytest.mark.parametrize("arguments", [["bot"], []])
def test_an_update_that_changes_nothing_is_refused(command_line: CommandLine, arguments: list[str]) -> None:
    shown = command_line("destination", "update", *arguments)
    assert shown.code == 2
    assert "Nothing to change" in shown.stderr
