"""`mo route` against a real service."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import Mo

ROUTES = """
[[route]]
id = "orders"
message_types = ["text"]
keywords = ["order"]
destinations = ["bot", "archive"]

[[route]]
id = "taps"
button_payloads = ["confirm"]
destinations = ["agents"]
"""


def write(directory: Path, text: str, name: str = "routes.toml") -> str:
    file = directory / name
    file.write_text(text)
    return str(file)


def test_routes_are_set_from_toml_and_listed_in_their_order(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("listed")
    assert mo("route", "list", "listed", "--json").stdout == ""
    assert int(mo("route", "set", "listed", write(tmp_path, ROUTES), "--json").object["revision"]) > 0
    assert [line["route_id"] for line in mo("route", "list", "listed", "--json").objects] == ["orders", "taps"]
    assert "bot, archive" in mo("route", "list", "listed").stdout


def test_what_is_listed_can_be_set_again(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("round")
    mo("route", "set", "round", write(tmp_path, ROUTES))
    toml = mo("route", "list", "round", "--toml").stdout
    lines = mo("route", "list", "round", "--json").stdout
    for text in (toml, lines):
        mo("route", "set", "round", "-", stdin=text)
        assert mo("route", "list", "round", "--toml").stdout == toml
    mo("route", "set", "round", write(tmp_path, json.dumps({"route": []}), "none.json"))
    assert mo("route", "list", "round", "--toml").stdout == "route = []\n"


def test_a_file_that_is_wrong_changes_nothing_and_every_fault_is_named(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("kept")
    mo("route", "set", "kept", write(tmp_path, ROUTES))
    wrong = write(tmp_path, '[[route]]\nid = "a"\nkeyword = ["x"]\n[[route]]\ndestinations = ["b"]', "wrong.toml")
    shown = mo("route", "set", "kept", wrong, code=2)
    assert "route 1 ('a'): `destinations` is missing" in shown.stderr
    assert "route 1 ('a'): unknown key `keyword`" in shown.stderr
    assert "route 2: `id` is missing" in shown.stderr
    assert len(mo("route", "list", "kept", "--json").objects) == 2


def test_what_only_the_service_can_know_is_named_for_every_route(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("refused")
    wrong = '[[route]]\nid = "a"\nbody_pattern = "("\ndestinations = ["b"]\n[[route]]\nid = "a b"\ndestinations = []'
    shown = mo("route", "set", "refused", write(tmp_path, wrong), code=1)
    assert "body_pattern" in shown.stderr
    assert len(shown.stderr.splitlines()) >= 3


def test_a_file_that_cannot_be_read_is_named(mo: Mo, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert missing in mo("route", "set", "any", missing, code=1).stderr
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in mo("route", "set", "any", str(tmp_path / "latin.toml"), code=1).stderr


def test_routes_that_changed_meanwhile_are_not_overwritten(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("revised")
    file = write(tmp_path, ROUTES)
    revision = mo("route", "set", "revised", file, "--json").object["revision"]
    mo("route", "set", "revised", file, "--expected-revision", revision)
    assert "revision" in mo("route", "set", "revised", file, "--expected-revision", revision, code=1).stderr


def test_explain_tells_the_route_and_why_not_the_earlier_ones(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("explained")
    mo("route", "set", "explained", write(tmp_path, ROUTES))
    order = mo("route", "explain", "explained", "--body", "where is my ORDER", "--json").object
    assert (order["route_id"], order["destinations"]) == ("orders", ["bot", "archive"])
    tap = mo("route", "explain", "explained", "--type", "button", "--button-payload", "confirm", "--json").object
    assert tap["route_id"] == "taps"
    assert [item["matched"] for item in tap["explanations"]] == [False, True]
    assert len(tap["explanations"][0]["mismatches"]) == 2
    rest = mo("route", "explain", "explained", "--type", "image").stdout
    assert "none matches" in rest
    assert "default" in rest


def test_explain_takes_a_stored_message_and_says_what_would_be_held(mo: Mo) -> None:
    mo.create_channel("held", "--no-destination")
    mo.ingest("held", "SM1")
    stored = mo("message", "show", "held", "SM1", "--include-text", "--json").object["message"]
    shown = mo("route", "explain", "held", "--message-json", "-", stdin=json.dumps(stored))
    assert "unrouted" in shown.stdout
    assert "MoMessage" in mo("route", "explain", "held", "--message-json", "-", stdin="[]", code=1).stderr


OFFICE = """
[[route]]
id = "office"
destinations = ["agents"]
time_windows = [{ time_zone = "Europe/Berlin", days = ["mon-fri"], start = "09:00", end = "17:00" }]
percentage = 12.5
"""


def test_windows_and_shares_are_listed_as_they_can_be_set_again(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("windows")
    mo("route", "set", "windows", write(tmp_path, OFFICE))
    listed = mo("route", "list", "windows").stdout
    assert "mon-fri 09:00-17:00 Europe/Berlin" in listed
    assert "percentage=12.5" in listed
    for text in (mo("route", "list", "windows", "--toml").stdout, mo("route", "list", "windows", "--json").stdout):
        mo("route", "set", "windows", "-", stdin=text)
        assert mo("route", "list", "windows").stdout == listed


def test_a_route_that_can_never_match_is_warned_of_on_stderr(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("warned")
    shadowed = '[[route]]\nid = "all"\ndestinations = ["bot"]\n' + ROUTES
    shown = mo("route", "set", "warned", write(tmp_path, shadowed), "--json")
    assert [warning["route_id"] for warning in shown.object["warnings"]] == ["orders", "taps"]
    assert 'warning: route "orders" can never match: the earlier route "all"' in shown.stderr


def test_a_dry_run_shows_what_would_go_another_way_and_changes_nothing(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("tried", "--destination", "desk")
    mo.ingest("tried", "SM1", "SM2")
    mo.ingest("tried", "SM3", body="my order")
    file = write(tmp_path, ROUTES)
    shown = mo("route", "set", "tried", file, "--dry-run")
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["messages", "tried", "3"],
        ["different", "1"],
        [],
        ["SID", "ROUTE", "DESTINATIONS", "NEW", "ROUTE", "NEW", "DESTINATIONS"],
        ["SM3", "none", "matches", "desk", "orders", "bot,", "archive"],
    ]
    assert mo("route", "set", "tried", file, "--dry-run", "--last", "1", "--json").object["messages"] == 1
    assert mo("route", "list", "tried").stdout == ""


def test_what_a_dry_run_does_not_take_is_named_at_once(mo: Mo, tmp_path: Path) -> None:
    file = write(tmp_path, ROUTES)
    assert "--last goes with --dry-run" in mo("route", "set", "any", file, "--last", "5", code=2).stderr
    shown = mo("route", "set", "any", file, "--dry-run", "--expected-revision", "1", code=2)
    assert "exclude each other" in shown.stderr


def test_an_earlier_revision_is_listed_and_printed_so_that_it_can_be_set_again(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("revisions")
    mo("route", "set", "revisions", write(tmp_path, OFFICE))
    before = mo("route", "list", "revisions", "--toml").stdout
    mo("route", "set", "revisions", write(tmp_path, ROUTES))
    listed = mo("route", "history", "revisions", "--json").objects
    assert [(item["revision"], len(item["routes"])) for item in listed] == [("2", 2), ("1", 1)]
    assert len(mo("route", "history", "revisions", "--limit", "1").stdout.splitlines()) == 2
    assert mo("route", "history", "revisions", "--revision", "1").stdout == before
    assert "no revision 9" in mo("route", "history", "revisions", "--revision", "9", code=1).stderr


def test_explain_takes_a_stored_message_by_its_sid(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("stored")
    mo.ingest("stored", "SM1", body="an order")
    mo("route", "set", "stored", write(tmp_path, ROUTES))
    assert mo("route", "explain", "stored", "--sid", "SM1", "--json").object["route_id"] == "orders"
    assert "no such message" in mo("route", "explain", "stored", "--sid", "SM9", code=1).stderr


FORM = "MessageSid=SM1&From=whatsapp%3A%2B447700900123&To=whatsapp%3A%2B14155238886&MessageType=text&Body=my+order\n"


def test_explain_takes_the_form_that_a_webhook_posts(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("posted")
    mo("route", "set", "posted", write(tmp_path, ROUTES))
    assert mo("route", "explain", "posted", "--form", "-", "--json", stdin=FORM).object["route_id"] == "orders"
    file = write(tmp_path, FORM.replace("order", "thanks"), "form.txt")
    assert "none matches" in mo("route", "explain", "posted", "--form", file).stdout


def test_a_form_that_is_no_message_is_refused_with_the_names_that_it_uses(mo: Mo) -> None:
    mo.create_channel("refusing")
    wrong = mo("route", "explain", "refusing", "--form", "-", stdin="MessageSid=SM1&Body=Hi", code=1).stderr
    assert "standard input: From is missing" in wrong
    assert "standard input: MessageType is missing" in wrong
    status = "MessageStatus=delivered&MessageSid=SM1"
    assert "status callback" in mo("route", "explain", "refusing", "--form", "-", stdin=status, code=1).stderr


def test_explain_takes_one_message_only(mo: Mo) -> None:
    shown = mo("route", "explain", "any", "--sid", "SM1", "--form", "-", "--body", "x", code=2)
    assert "--sid and --form and options that describe a message exclude each other" in shown.stderr


def test_explain_tells_about_a_window_as_of_when_the_message_was_received(mo: Mo, tmp_path: Path) -> None:
    mo.create_channel("hours")
    mo("route", "set", "hours", write(tmp_path, OFFICE.replace("percentage = 12.5", "")))
    monday = mo("route", "explain", "hours", "--received", "2026-11-23T09:30:00+01:00", "--json").object
    assert monday["route_id"] == "office"
    sunday = mo("route", "explain", "hours", "--received", "2026-11-22T09:30:00+01:00").stdout
    assert "Sunday 09:30 in Europe/Berlin" in sunday


def test_explain_shows_where_a_conversation_stays(mo: Mo) -> None:
    mo.create_channel("staying")
    mo("conversation", "assign", "staying", "whatsapp:+447700900123", "agents")
    shown = mo("route", "explain", "staying", "--sender", "whatsapp:+447700900123").stdout
    assert "stays with" in shown
    assert "(assigned)" in shown
