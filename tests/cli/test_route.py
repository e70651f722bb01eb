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
