"""Where a message goes: a table of cases with sentence names."""

from __future__ import annotations

import pytest
import re2

from service.models import ChannelState, HoldReason, MessageFacts, Route, TimeWindow
from service.routing import RouteIndex, decide, explain
from tests.service.builders import a_channel
from tests.service.routed import at, facts


def matches(message: MessageFacts, **matchers: object) -> bool:
    """Whether a route with these matchers takes the message. Asks both ways: they have to agree."""
    route = Route("r", ("bot",), **matchers)  # type: ignore[arg-type] # any matcher
    (explanation,) = explain([route], message)
    is_found = RouteIndex([route]).find(message) is not None
    assert is_found == (not explanation.mismatches)
    return is_found


MON_TO_FRI = (1, 2, 3, 4, 5)
OFFICE = TimeWindow("Europe/Berlin", MON_TO_FRI, 9 * 60, 17 * 60)
NIGHT = TimeWindow("Europe/Berlin", (5,), 22 * 60, 6 * 60)
"""Fridays, 22:00 to 06:00."""


@pytest.mark.parametrize(
    ("message", "matchers"),
    [
        pytest.param(facts(), {}, id="nothing asked for matches every message"),
        pytest.param(facts(types=("TEXT",)), {"message_types": ("text",)}, id="a type matches without case"),
        pytest.param(facts(types=("VIDEO",)), {"message_types": ("VEDIO",)}, id="VEDIO is VIDEO"),
        pytest.param(
            facts(types=("HOLOGRAM",)), {"message_types": ("x", "Hologram")}, id="an unknown type has its name"
        ),
        pytest.param(facts("I need HELP!"), {"keywords": ("help",)}, id="a keyword is a word anywhere, without case"),
        pytest.param(
            facts("please  talk\nto me"), {"keywords": ("talk to",)}, id="a phrase matches over any white space"
        ),
        pytest.param(facts("GROSSE STRASSE"), {"keywords": ("große",)}, id="case is folded as Unicode does"),
        pytest.param(facts("मुझे मदद चाहिए"), {"keywords": ("चाहिए",)}, id="a mark is a part of its word"),
        pytest.param(facts("ok 👍🏽"), {"keywords": ("👍",)}, id="an emoji is a keyword"),
        pytest.param(facts("wait...what"), {"keywords": ("what",)}, id="a sign ends a word"),
        pytest.param(facts("I said stop, please"), {"keywords": ("start", "stop")}, id="keywords are alternatives"),
        pytest.param(facts("order #4711"), {"body_pattern": r"#\d+"}, id="a pattern is searched for"),
        pytest.param(facts("שלום"), {"body_pattern": r"^\pL+$"}, id="a pattern knows scripts"),
        pytest.param(facts(""), {"body_pattern": ""}, id="an empty pattern is found in an empty body"),
        pytest.param(facts(), {"sender_prefixes": ("+44",)}, id="a prefix matches without the scheme"),
        pytest.param(facts(), {"sender_prefixes": ("whatsapp:+44",)}, id="a prefix matches with the scheme"),
        pytest.param(facts(sender="whatsapp:GB.778"), {"sender_prefixes": ("GB.",)}, id="a user id has a prefix too"),
        pytest.param(facts(payload="confirm:1"), {"button_payloads": ("x", "confirm:1")}, id="a payload is exact"),
        pytest.param(facts(is_reply=True), {"is_reply": True}, id="a reply is a reply"),
        pytest.param(facts(), {"is_reply": False, "has_referral": False}, id="what must not be there is not there"),
        pytest.param(facts("a\0help"), {"keywords": ("help",)}, id="a NUL doesn't end the body"),
        pytest.param(at("2026-11-23T08:00:00Z"), {"time_windows": (OFFICE,)}, id="a window begins with its minute"),
        pytest.param(at("2026-11-23T15:59:59Z"), {"time_windows": (OFFICE,)}, id="the last second is in the window"),
        pytest.param(at("2026-11-27T21:00:00Z"), {"time_windows": (NIGHT,)}, id="a night begins on its day"),
        pytest.param(at("2026-11-28T04:59:00Z"), {"time_windows": (NIGHT,)}, id="a night ends on the next day"),
        pytest.param(
            at("2026-11-30T00:30:00Z"),
            {"time_windows": (TimeWindow("UTC", (7,), 23 * 60, 60),)},
            id="a night of Sunday goes on in the next week",
        ),
        pytest.param(
            at("2026-11-28T12:00:00Z"), {"time_windows": (OFFICE, TimeWindow())}, id="windows are alternatives"
        ),
        pytest.param(
            at("2026-11-28T23:59:59Z"), {"time_windows": (TimeWindow(days=(6,)),)}, id="a whole day lasts until 24:00"
        ),
        pytest.param(
            at("2026-11-23T08:59:59Z"),
            {"time_windows": (TimeWindow("UTC", (7,), 540, 540),)},
            id="a window that ends where it began lasts a day",
        ),
        pytest.param(
            at("2026-07-06T07:00:00Z"), {"time_windows": (OFFICE,)}, id="in summer 9 o'clock is an hour earlier"
        ),
        pytest.param(
            at("2026-10-25T00:30:00Z"),
            {"time_windows": (TimeWindow("Europe/Berlin", (7,), 120, 180),)},
            id="an hour that comes twice is in its window the first time",
        ),
        pytest.param(
            at("2026-10-25T01:30:00Z"),
            {"time_windows": (TimeWindow("Europe/Berlin", (7,), 120, 180),)},
            id="an hour that comes twice is in its window the second time",
        ),
        pytest.param(facts(), {"basis_points": 10_000}, id="100 percent are everybody"),
    ],
)
def test_a_message_matches_when(message: MessageFacts, matchers: dict[str, object]) -> None:
    assert matches(message, **matchers)


@pytest.mark.parametrize(
    ("message", "matchers"),
    [
        pytest.param(facts(None), {"keywords": ("help",)}, id="without a body there is no keyword"),
        pytest.param(facts(None), {"body_pattern": ".*"}, id="without a body there is no pattern, whatever it is"),
        pytest.param(facts("helpless"), {"keywords": ("help",)}, id="a part of a word is no keyword"),
        pytest.param(facts("चाहिए"), {"keywords": ("च",)}, id="a letter without its mark is no word"),
        pytest.param(facts("to talk"), {"keywords": ("talk to",)}, id="a phrase has an order"),
        pytest.param(facts(None), {"button_payloads": ("",)}, id="no button is not an empty payload"),
        pytest.param(facts("help"), {"keywords": ("help",), "is_reply": True}, id="all that is set must match"),
        pytest.param(facts(), {"message_types": ("IMAGE",)}, id="another type"),
        pytest.param(facts(sender="whatsapp:+1447"), {"sender_prefixes": ("+44",)}, id="a prefix is at the beginning"),
        pytest.param(facts(payload="Confirm"), {"button_payloads": ("confirm",)}, id="a payload has its case"),
        pytest.param(facts(), {"has_referral": True}, id="no referral"),
        pytest.param(at("2026-11-23T16:00:00Z"), {"time_windows": (OFFICE,)}, id="the end is not in the window"),
        pytest.param(at("2026-11-28T12:00:00Z"), {"time_windows": (OFFICE,)}, id="another day"),
        pytest.param(at("2026-11-27T04:00:00Z"), {"time_windows": (NIGHT,)}, id="the night before has another day"),
        pytest.param(
            at("2026-03-29T01:30:00Z"),
            {"time_windows": (TimeWindow("Europe/Berlin", (), 120, 180),)},
            id="an hour that is skipped is in no window",
        ),
        pytest.param(
            at("2026-11-23T12:00:00Z"),
            {"time_windows": (TimeWindow("Mars/Olympus_Mons"),)},
            id="a time zone that this machine doesn't know",
        ),
        pytest.param(facts(), {"basis_points": 0}, id="0 percent are nobody"),
    ],
)
def test_a_message_does_not_match_when(message: MessageFacts, matchers: dict[str, object]) -> None:
    assert not matches(message, **matchers)


def test_the_first_route_that_matches_wins_and_its_destinations_are_all_served() -> None:
    routes = (
        Route("vip", ("agents",), sender_prefixes=("+49",)),
        Route("help", ("agents", "bot"), keywords=("help",)),
        Route("rest", ("bot",)),
    )
    channel = a_channel(routes=routes, route_revision=3, affinity_seconds=60)

    decision = decide(channel, RouteIndex(routes), facts("help"), "")

    assert decision == (("agents", "bot"), None, "help", 3, None, 60)


def test_a_message_without_a_route_goes_to_the_destination_of_the_channel() -> None:
    decision = decide(a_channel(destination="desk"), RouteIndex(()), facts(), "")

    assert (decision.destinations, decision.hold_reason, decision.route_id) == (("desk",), None, "")


def test_a_message_without_route_and_destination_is_held() -> None:
    assert decide(a_channel(destination=None), RouteIndex(()), facts(), "").hold_reason is HoldReason.UNROUTED


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ChannelState.PAUSED, HoldReason.CHANNEL_PAUSED),
        (ChannelState.DISABLED, HoldReason.CHANNEL_DISABLED),
        (ChannelState.DELETED, HoldReason.CHANNEL_DELETED),
    ],
)
def test_a_channel_that_is_not_enabled_holds_its_messages(state: ChannelState, reason: HoldReason) -> None:
    assert decide(a_channel(state=state), RouteIndex(()), facts(), "").hold_reason is reason


def test_a_pattern_that_makes_others_backtrack_is_answered_at_once() -> None:
    assert not matches(facts("a" * 40_000 + "b"), body_pattern="(a+)+c")


def test_patterns_that_are_too_large_to_be_searched_for_together_are_all_found() -> None:
    large = [rf"^number {number} \pL{{50}}$" for number in range(3)]
    index = RouteIndex([Route(f"r{number}", ("bot",), body_pattern=text) for number, text in enumerate(large)])

    for number in range(3):
        found = index.find(facts(f"number {number} {'ß' * 50}"))
        assert found is not None
        assert found.route_id == f"r{number}"


def test_a_search_for_all_patterns_that_fails_misses_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    index = RouteIndex([Route("other", ("bot",), body_pattern="x"), Route("greeting", ("bot",), body_pattern="^H")])
    monkeypatch.setattr(re2.Set, "Match", lambda _set, _text: None)  # as when it runs out of memory

    found = index.find(facts("Hello"))

    assert found is not None
    assert found.route_id == "greeting"


def test_a_share_is_about_as_large_as_asked_and_independent_of_another_routes() -> None:
    quarter, half = (
        RouteIndex([Route(name, ("b",), basis_points=points)]) for name, points in (("q", 2500), ("h", 5000))
    )
    senders = [facts(sender=f"whatsapp:+44770090{number:04}") for number in range(4000)]

    in_quarter = {message.sender for message in senders if quarter.find(message)}
    in_both = {message.sender for message in senders if message.sender in in_quarter and half.find(message)}

    assert 900 < len(in_quarter) < 1100
    assert 400 < len(in_both) < 600


def test_a_larger_share_keeps_the_conversations_of_a_smaller_one() -> None:
    shares = [RouteIndex([Route("r", ("b",), basis_points=points)]) for points in (500, 1250, 8000)]
    senders = [facts(sender=f"whatsapp:+44770090{number:04}") for number in range(1000)]

    taken = [{message.sender for message in senders if share.find(message)} for share in shares]

    assert taken[0] < taken[1] < taken[2]


def test_a_conversation_has_its_place_in_a_share_on_every_machine_and_version() -> None:
    index = RouteIndex([Route("canary", ("b",), basis_points=1000)])

    taken = [number for number in range(60) if index.find(facts(sender=f"whatsapp:+44770090{number:04}"))]

    assert taken == [7, 8, 15, 19, 34, 38, 39, 52]


def test_why_a_window_did_not_match_is_told_in_its_own_time() -> None:
    (explanation,) = explain([Route("office", ("bot",), time_windows=(OFFICE,))], at("2026-11-23T07:59:00Z"))

    (mismatch,) = explanation.mismatches
    assert mismatch.endswith("Monday 08:59 in Europe/Berlin")
