"""`mo message` against a real service."""

from __future__ import annotations

from tests.cli.commands import Mo


def listed(mo: Mo, *options: str) -> list[str]:
    return [line["message"]["message_sid"] for line in mo("message", "list", *options, "--json").objects]


def test_a_message_is_shown_with_its_life_and_its_text_only_when_asked_for(mo: Mo) -> None:
    mo.create_channel("shown")
    mo.ingest("shown", "SM1", body="a private matter")
    assert "private" not in mo("message", "show", "shown", "SM1").stdout
    assert "private" not in mo("message", "show", "shown", "SM1", "--json").stdout
    assert "a private matter" in mo("message", "show", "shown", "SM1", "--include-text").stdout
    mo("feed", "pull", "default", "--ack", "--max", "1")
    stored = mo("message", "show", "shown", "SM1", "--json").object
    assert stored["state"] == "MESSAGE_STATE_DELIVERED"
    assert stored["deliveries"][0]["destination"] == "default"
    assert "acknowledged" in mo("message", "show", "shown", "SM1").stdout


def test_other_messages_with_the_same_id_are_shown_beside_it(mo: Mo) -> None:
    mo.create_channel("clashing", "--destination", "clashing")
    mo.ingest("clashing", "SM1", body="the first")
    mo.ingest("clashing", "SM1", body="the second", sender="whatsapp:+447700900199")
    without = mo("message", "show", "clashing", "SM1").stdout
    assert "CLASH STORED" in without
    assert "447700900199" in without
    assert "the second" not in without
    assert "BODY" not in without
    assert "the second" in mo("message", "show", "clashing", "SM1", "--include-text").stdout
    (clash,) = mo("message", "show", "clashing", "SM1", "--include-text", "--json").object["clashes"]
    assert clash["message"]["body"] == "the second"


def test_a_message_that_is_not_there_is_said_in_one_line(mo: Mo) -> None:
    mo.create_channel("without")
    shown = mo("message", "show", "without", "SM404", code=1)
    assert len(shown.stderr.splitlines()) == 1


def test_a_list_is_filtered_and_newest_first(mo: Mo) -> None:
    mo.create_channel("filtered", "--destination", "filtered")
    mo.create_channel("paused", "--pause")
    other = "whatsapp:+447700900199"
    mo.ingest("filtered", "SM1", "SM2")
    mo.ingest("filtered", "SM3", sender=other)
    mo.ingest("paused", "SM4")
    assert listed(mo, "--channel", "filtered") == ["SM3", "SM2", "SM1"]
    assert listed(mo, "--channel", "filtered", "--sender", other) == ["SM3"]
    assert listed(mo, "--destination", "filtered", "--limit", "2") == ["SM3", "SM2"]
    assert listed(mo, "--state", "held", "--channel", "paused") == ["SM4"]
    assert listed(mo, "--channel", "filtered", "--since", "1h") == ["SM3", "SM2", "SM1"]
    assert listed(mo, "--channel", "filtered", "--until", "1h") == []
    assert "channel-paused" in mo("message", "list", "--channel", "paused").stdout


def test_a_long_list_is_fetched_page_by_page_up_to_the_limit(mo: Mo) -> None:
    mo.create_channel("long", "--destination", "long")
    for start in (0, 600):
        mo.ingest("long", *[f"SM{number}" for number in range(start, start + 600)])
    assert listed(mo, "--channel", "long", "--limit", "1100") == [f"SM{number}" for number in range(1_199, 99, -1)]
    assert len(listed(mo, "--channel", "long")) == 100


def test_a_sender_without_its_channel_is_refused_without_repeating_the_number(mo: Mo) -> None:
    shown = mo("message", "list", "--sender", "whatsapp:+447700900123", code=1)
    assert "channel" in shown.stderr
    assert "447700900123" not in shown.stderr
