"""Route files: what is written is read again, and every fault is named at once."""

from __future__ import annotations

import json

import pytest
from aicc.mo.v1.channel_directory_pb2 import DayOfWeek, Route, RouteMatch, TimeWindow
from hypothesis import given
from hypothesis import strategies as st

from shim.cli.output import json_line
from shim.cli.route_file import RouteFileError, read_routes, write_toml

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
WINDOWS = st.builds(
    TimeWindow,
    time_zone=TEXT,
    days=st.lists(st.sampled_from(DayOfWeek.values()[1:]), unique=True),
    start=st.sampled_from(["", "09:00"]),
    end=st.sampled_from(["", "24:00"]),
)
MATCHES = st.builds(
    RouteMatch,
    message_types=st.lists(TEXT, max_size=2),
    keywords=st.lists(TEXT, max_size=2),
    body_pattern=st.none() | TEXT,
    sender_prefixes=st.lists(TEXT, max_size=2),
    button_payloads=st.lists(TEXT, max_size=2),
    is_reply=st.none() | st.booleans(),
    has_referral=st.none() | st.booleans(),
    time_windows=st.lists(WINDOWS, max_size=2),
    percentage=st.none() | st.integers(0, 10_000).map(lambda points: points / 100),
)
ROUTES = st.lists(st.builds(Route, route_id=TEXT, match=MATCHES, destinations=st.lists(TEXT, max_size=2)), max_size=3)


def faults(text: str, *, is_json: bool | None = False) -> list[str]:
    with pytest.raises(RouteFileError) as caught:
        read_routes(text, is_json=is_json)
    return caught.value.faults


def without_empty_matches(routes: list[Route]) -> list[Route]:
    """An absent matcher and an empty one are the same rule."""
    kept = [Route(route_id=route.route_id, destinations=route.destinations) for route in routes]
    for route, copy in zip(routes, kept, strict=True):
        if route.match != RouteMatch():
            copy.match.CopyFrom(route.match)
    return kept


@given(ROUTES)
def test_the_toml_that_is_written_is_read_as_the_same_routes(routes: list[Route]) -> None:
    assert read_routes(write_toml(routes), is_json=None) == without_empty_matches(routes)


@given(ROUTES.filter(bool))
def test_the_lines_that_route_list_prints_as_json_are_read_as_the_same_routes(routes: list[Route]) -> None:
    lines = "\n".join(json_line(route) for route in routes)
    assert without_empty_matches(read_routes(lines, is_json=None)) == without_empty_matches(routes)


@pytest.mark.parametrize(
    "text",
    [
        '[[route]]\nid = "r"\ndestinations = ["bot"]\nkeywords = ["a"]\nis_reply = true',
        '[[route]]\nid = "r"\ndestinations = ["bot"]\n[route.match]\nkeywords = ["a"]\nis_reply = true',
        '[[route]]\nid = "r"\ndestinations = ["bot"]\nis_reply = true\nmatch = { keywords = ["a"] }',
        '{"route": [{"id": "r", "destinations": ["bot"], "keywords": ["a"], "is_reply": true}]}',
        ' [ {"route_id": "r", "destinations": ["bot"], "match": {"keywords": ["a"], "is_reply": true}}]',
        '{"id": "r", "destinations": ["bot"], "keywords": ["a"], "is_reply": true}',
    ],
)
def test_a_matcher_may_stand_beside_the_id_or_in_a_table_of_its_own_in_toml_and_json(text: str) -> None:
    wanted = Route(route_id="r", match=RouteMatch(keywords=["a"], is_reply=True), destinations=["bot"])
    assert read_routes(text, is_json=None) == [wanted]


def test_every_fault_of_every_route_is_named_with_its_number_and_id() -> None:
    text = """
        version = 2
        [[route]]
        id = "first"
        destination = ["bot"]
        is_reply = "yes"
        [[route]]
        destinations = "bot"
        keywords = [1]
        match = { keyword = "x", keywords = ["y"] }
    """
    found = faults(text)
    assert [fault.partition("; there are")[0] for fault in found] == [
        "unknown key `version`: there are only [[route]] tables",
        "route 1 ('first'): `destinations` is missing",
        "route 1 ('first'): unknown key `destination`",
        "route 1 ('first'): `is_reply` must be true or false",
        "route 2: `id` is missing",
        "route 2: `destinations` must be a list of strings",
        "route 2: `keywords` must be a list of strings",
        "route 2: unknown key `match.keyword`",
        "route 2: `keywords` stands beside `match` and in it: leave one out",
    ]


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ('["mon", "wed"]', [1, 3]),
        ('["Monday", "tue-thu"]', [1, 2, 3, 4]),
        ('["mon-fri", "fri"]', [1, 2, 3, 4, 5]),
        ('["sat - mon"]', [6, 7, 1]),
        ('["DAY_OF_WEEK_SUNDAY"]', [7]),
        ("[]", []),
    ],
)
def test_days_are_written_by_name_or_as_a_range(written: str, days: list[int]) -> None:
    text = f'[[route]]\nid = "r"\ndestinations = ["bot"]\ntime_windows = [{{ days = {written}, end = "12:00" }}]'
    (route,) = read_routes(text, is_json=None)
    assert list(route.match.time_windows) == [TimeWindow(days=days, end="12:00")]  # type: ignore[arg-type] # numbers


def test_every_fault_of_a_window_is_named() -> None:
    text = """
        [[route]]
        id = "r"
        destinations = ["bot"]
        percentage = "5 %"
        match.time_windows = [{}, { zone = "UTC", days = ["mon", "mo", 1], start = 9 }, "always", { days = "mon" }]
        [[route]]
        id = "s"
        destinations = ["bot"]
        time_windows = { start = "09:00" }
        percentage = true
    """
    assert [fault.partition("; ")[0] for fault in faults(text)] == [
        "route 1 ('r'): `percentage` must be a number",
        "route 1 ('r'): `match.time_windows[1]` has an unknown key `zone`",
        "route 1 ('r'): `match.time_windows[1]` has 'mo' in `days`",
        "route 1 ('r'): `match.time_windows[1]` has 1 in `days`",
        "route 1 ('r'): `match.time_windows[1]` has a `start` that is no string",
        "route 1 ('r'): `match.time_windows[2]` must be a table, like "
        '{ time_zone = "UTC", days = ["mon-fri"], start = "09:00", end = "17:00" }',
        "route 1 ('r'): `match.time_windows[3]` has `days` that are no list",
        "route 2 ('s'): `time_windows` must be a list of tables",
        "route 2 ('s'): `percentage` must be a number",
    ]


@pytest.mark.parametrize("text", ["", "# nothing", "{}"])
def test_no_routes_at_all_must_be_said_explicitly(text: str) -> None:
    assert "route = []" in faults(text, is_json=None)[0]
    assert read_routes("route = []", is_json=None) == []
    assert read_routes("[]", is_json=None) == []


@pytest.mark.parametrize("text", ["[[route]", "route = 3", "x = 1\nx = 2", '{"route": 3}', "{", "[3]", '[{"id"'])
def test_what_is_neither_toml_nor_json_is_refused(text: str) -> None:
    assert faults(text, is_json=None)


def test_a_json_file_must_hold_routes() -> None:
    for document in (3, "route", None, True):
        assert faults(json.dumps(document), is_json=True)
