"""Whatever the routes and the message are: deciding and explaining agree, and no warning is a false alarm."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.models import MessageFacts, Route, TimeWindow
from service.route_checks import check_routes
from service.routing import RouteIndex, decide, explain, find_warnings
from service.rpc.convert_routes import from_route, to_route
from service.store.routes_json import dump_routes, load_routes
from tests.service.builders import a_channel

# Few of each, and related to each other: so that routes match, and shadow each other.
PHRASES = st.sampled_from(
    ["help", "help me", "me", "Straße", "STRASSE 7", "7", "👍", "👍🏽", "चाहिए", "a.b", "ﬁne", "_x"]
)
BODIES = st.lists(PHRASES | st.sampled_from(["hello", "\0", "...", "HELP", "fine", "\u2003"]), max_size=5).map(" ".join)
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PATTERNS = st.sampled_from(["", "^h", "[0-9]", r"\pL{3}", "(?i)help", r"\bme\b", ".", r"^\s*$", "\\x00", "ß|ss"])
TYPES = st.sampled_from(["TEXT", "text", "IMAGE", "VEDIO", "VIDEO", "Hologram"])
SENDERS = st.sampled_from(["whatsapp:+44", "whatsapp:+447", "+4477", "whatsapp:GB.77", "+1", "whatsapp:"])
PAYLOADS = st.sampled_from(["yes", "no", "Yes"])
WINDOWS = st.builds(
    TimeWindow,
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]),
    st.sets(st.integers(1, 7), max_size=3).map(tuple),
    st.sampled_from([0, 60, 540, 1020, 1439]),
    st.sampled_from([0, 60, 540, 1020, 1440]),
)


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, min_size=1, max_size=2).map(tuple)


MATCHERS: dict[str, st.SearchStrategy[Any]] = {
    "message_types": _some(TYPES),
    "keywords": _some(PHRASES | ANY_TEXT.filter(str.strip)),
    "body_pattern": PATTERNS,
    "sender_prefixes": _some(SENDERS),
    "button_payloads": _some(PAYLOADS),
    "is_reply": st.booleans(),
    "has_referral": st.booleans(),
    "time_windows": _some(WINDOWS),
    "basis_points": st.sampled_from([0, 1, 3333, 5000, 9999, 10_000]),
}


def _routes(most_matchers: int) -> st.SearchStrategy[tuple[Route, ...]]:
    """Routes that look at the same few things."""
    kinds = st.sets(st.sampled_from(sorted(MATCHERS)), min_size=1, max_size=most_matchers)
    return kinds.flatmap(_routes_of).map(
        lambda rules: tuple(Route(f"r{number}", ("bot",), **rule) for number, rule in enumerate(rules))
    )


def _routes_of(kinds: set[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    rules = st.fixed_dictionaries({}, optional={name: MATCHERS[name] for name in sorted(kinds)})
    return st.lists(rules, max_size=6)


MESSAGES = st.builds(
    MessageFacts,
    st.sampled_from(["C1", "C2"]),
    st.sampled_from([("TEXT",), ("IMAGE",), ("VIDEO",), ("HOLOGRAM",), ("CONTACT", "CONTACTS"), ("",)]),
    st.sampled_from(["whatsapp:+441", "whatsapp:+4471", "whatsapp:+44770", "whatsapp:GB.771", "whatsapp:+1", "x"]),
    # The changes of clocks among them, and what only a forged time can be.
    st.integers(1_772_000_000, 1_798_000_000).map(lambda seconds: seconds * 1_000_000)
    | st.sampled_from([0, -(10**15), 1_774_746_000_000_000, 1_792_891_799_999_999, 10**18]),
    st.none() | BODIES | ANY_TEXT,
    st.none() | PAYLOADS,
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=3 * settings().max_examples)
@given(_routes(4), MESSAGES)
def test_explain_and_decide_never_disagree(routes: tuple[Route, ...], message: MessageFacts) -> None:
    decision = decide(a_channel(), RouteIndex(routes), message, "")
    explanations = explain(routes, message)

    matched = [explanation.route_id for explanation in explanations if not explanation.mismatches]
    assert matched == ([decision.route_id] if decision.route_id else [])
    assert len(explanations) == (len(routes) if not matched else int(matched[0][1:]) + 1)


@settings(max_examples=6 * settings().max_examples)
@given(_routes(2), st.lists(MESSAGES, min_size=8, max_size=8))
def test_a_route_that_is_warned_of_never_wins(routes: tuple[Route, ...], messages: list[MessageFacts]) -> None:
    index = RouteIndex(routes)
    warned_of = {warning.route_id for warning in find_warnings(index)}

    won = {found.route_id for message in messages if (found := index.find(message))}

    assert not won & warned_of


@given(_routes(9))
def test_routes_come_out_of_the_store_and_the_contract_as_they_went_in(routes: tuple[Route, ...]) -> None:
    assert not list(check_routes(routes))
    assert load_routes(dump_routes(routes)) == routes
    assert tuple(from_route(to_route(route)) for route in routes) == routes
