"""`mo audit` against a real service."""

from __future__ import annotations

from tests.cli.commands import Mo

SENDER = "whatsapp:+447700900123"


def test_what_was_done_by_hand_is_told_with_who_did_it_newest_first(mo: Mo) -> None:
    mo.create_channel("audited")
    mo("conversation", "assign", "audited", SENDER, "agents", "--operator", "ada")
    mo("message", "erase-sender", "audited", SENDER, "--yes", "--operator", "bob")
    newest, older, *_ = mo("audit", "list", "--json").objects
    assert (newest["actor"], newest["action"]) == ("bob", "erase")
    assert (older["actor"], older["action"]) == ("ada", "assign")
    assert newest["time"]
    assert newest["details"]["channel"] == "audited"
    shown = mo("audit", "list").stdout
    assert "447700900123" not in shown
    assert shown.splitlines()[0].split() == ["TIME", "ACTOR", "ACTION", "DETAILS"]


def test_a_list_is_limited_and_filtered(mo: Mo) -> None:
    mo.create_channel("many")
    for number in range(3):
        mo("conversation", "assign", "many", SENDER, f"agents-{number}")
    found = mo("audit", "list", "--limit", "2", "--action", "assign", "--json").objects
    assert [item["action"] for item in found] == ["assign", "assign"]
    assert "agents-2" in str(found[0]["details"])


def test_an_action_that_nobody_took_may_be_a_slip(mo: Mo) -> None:
    shown = mo("audit", "list", "--action", "assgin")
    assert shown.stdout == ""
    assert '"assgin"' in shown.stderr
