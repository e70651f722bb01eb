"""`mo conversation` against a real service."""

from __future__ import annotations

from tests.cli.commands import CommandLine, Mo

SENDER = "whatsapp:+447700900123"


def pulled(mo: Mo, destination: str) -> list[str]:
    lines = mo("feed", "pull", destination, "--max", "100", "--ack").objects
    return [line["message"]["message_sid"] for line in lines]


def test_a_conversation_is_handed_over_with_what_waits_and_comes_back(mo: Mo) -> None:
    mo.create_channel("handed", "--destination", "bot")
    mo.ingest("handed", "SM1", "SM2")
    shown = mo("conversation", "assign", "handed", SENDER, "agents", "--ttl", "4h", "--json").object
    assert shown["moved"] == 2
    assert shown["expire_time"]
    mo.ingest("handed", "SM3")
    assert pulled(mo, "agents") == ["SM1", "SM2", "SM3"]
    released = mo("conversation", "release", "handed", SENDER)
    assert released.stdout == ""
    assert "+4477…23" in released.stderr
    assert "447700900123" not in released.stderr
    mo.ingest("handed", "SM4")
    assert pulled(mo, "bot") == ["SM4"]


def test_the_message_tells_why_it_went_there(mo: Mo) -> None:
    mo.create_channel("told", "--destination", "bot")
    mo("conversation", "assign", "told", SENDER, "agents")
    mo.ingest("told", "SM1")
    assert "(revision 0), assigned" in mo("message", "show", "told", "SM1").stdout
    assert "the conversation was assigned there" in mo("message", "trace", "told", "SM1").stdout


def test_a_person_reads_where_it_stays_and_until_when(mo: Mo) -> None:
    mo.create_channel("read", "--destination", "bot")
    lines = [line.split() for line in mo("conversation", "assign", "read", SENDER, "agents").stdout.splitlines()]
    assert lines[:2] == [["destination", "agents"], ["moved", "0"]]
    assert lines[2][0] == "until"


def test_a_destination_that_nobody_knows_may_be_a_slip(mo: Mo) -> None:
    mo.create_channel("slip", "--destination", "bot")
    assert '"agnets"' in mo("conversation", "assign", "slip", SENDER, "agnets").stderr
    assert mo("conversation", "assign", "slip", SENDER, "bot").stderr == ""


def test_no_channel_and_a_bad_time_are_refused(mo: Mo) -> None:
    assert "no-such" in mo("conversation", "assign", "no-such", SENDER, "agents", code=1).stderr
    mo.create_channel("timed")
    assert "ttl" in mo("conversation", "assign", "timed", SENDER, "agents", "--ttl", "31d", code=1).stderr


def test_an_empty_destination_is_no_release_by_mistake(command_line: CommandLine) -> None:
    shown = command_line("conversation", "assign", "C1", SENDER, "", "--ttl", "soon")
    assert shown.code == 2
    assert "mo conversation release" in shown.stderr
    assert "'soon'" in shown.stderr
