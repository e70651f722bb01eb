"""Where a message goes: a table of cases with sentence names, and explain never disagrees with decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.checks import check_routes
from service.models import ChannelState, HoldReason, MessageFacts, Route
from service.routing import compile_routes, decide, explain
from tests.service.builders import a_channel


def facts(
    body: str | None = "Hello",
    *,
    types: tuple[str, ...] = ("TEXT",),
    sender: str = "whatsapp:+447700900123",
    payload: str | None = None,
    is_reply: bool = False,
    has_referral: bool = False,
) -> MessageFacts:
    return MessageFacts(types, sender, body, payload, is_reply, has_referral)


def matches(message: MessageFacts, **matchers: object) -> bool:
    (compiled,) = compile_routes([Route("r", ("bot",), **matchers)])  # type: ignore[arg-type] # any matcher
    return compiled.matches(message)


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
        pytest.param(facts("ok 👍🏽"), {"keywords": ("👍",)}, id="an emoji is a keyword"),
        pytest.param(facts("I said stop, please"), {"keywords": ("start", "stop")}, id="keywords are alternatives"),
        pytest.param(facts("order #4711"), {"body_pattern": r"#\d+"}, id="a pattern is searched for"),
        pytest.param(facts("שלום"), {"body_pattern": r"^\pL+$"}, id="a pattern knows scripts"),
        pytest.param(facts(), {"sender_prefixes": ("+44",)}, id="a prefix matches without the scheme"),
        pytest.param(facts(), {"sender_prefixes": ("whatsapp:+44",)}, id="a prefix matches with the scheme"),
        pytest.param(facts(sender="whatsapp:GB.778"), {"sender_prefixes": ("GB.",)}, id="a user id has a prefix too"),
        pytest.param(facts(payload="confirm:1"), {"button_payloads": ("x", "confirm:1")}, id="a payload is exact"),
        pytest.param(facts(is_reply=True), {"is_reply": True}, id="a reply is a reply"),
        pytest.param(facts(), {"is_reply": False, "has_referral": False}, id="what must not be there is not there"),
        pytest.param(facts("a\0help"), {"keywords": ("help",)}, id="a NUL doesn't end the body"),
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
        pytest.param(facts(None), {"button_payloads": ("",)}, id="no button is not an empty payload"),
        pytest.param(facts("help"), {"keywords": ("help",), "is_reply": True}, id="all that is set must match"),
        pytest.param(facts(), {"message_types": ("IMAGE",)}, id="another type"),
        pytest.param(facts(sender="whatsapp:+1447"), {"sender_prefixes": ("+44",)}, id="a prefix is at the beginning"),
        pytest.param(facts(payload="Confirm"), {"button_payloads": ("confirm",)}, id="a payload has its case"),
        pytest.param(facts(), {"has_referral": True}, id="no referral"),
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
    channel = a_channel(routes=routes, route_revision=3)

    decision = decide(channel, compile_routes(routes), facts("help"), "")

    assert decision == (("agents", "bot"), None, "help", 3)


def test_a_message_without_a_route_goes_to_the_destination_of_the_channel() -> None:
    assert decide(a_channel(destination="desk"), (), facts(), "") == (("desk",), None, "", 0)


def test_a_message_without_route_and_destination_is_held() -> None:
    assert decide(a_channel(destination=None), (), facts(), "").hold_reason is HoldReason.UNROUTED


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ChannelState.PAUSED, HoldReason.CHANNEL_PAUSED),
        (ChannelState.DISABLED, HoldReason.CHANNEL_DISABLED),
        (ChannelState.DELETED, HoldReason.CHANNEL_DELETED),
    ],
)
def test_a_channel_that_is_not_enabled_holds_its_messages(state: ChannelState, reason: HoldReason) -> None:
    assert decide(a_channel(state=state), (), facts(), "").hold_reason is reason


def test_a_pattern_that_makes_others_backtrack_is_answered_at_once() -> None:
    assert not matches(facts("a" * 40_000 + "b"), body_pattern="(a+)+c")


def test_every_fault_of_every_route_is_named_at_once() -> None:
    violations = check_routes(
        [
            Route("a b", (), keywords=("", "x"), body_pattern="("),
            Route("ok", ("bot", "bot")),
            Route("ok", ("the bot",), message_types=(" ",)),
        ]
    )

    assert sorted({violation.field for violation in violations}) == [
        "routes[0].destinations",
        "routes[0].match.body_pattern",
        "routes[0].match.keywords[0]",
        "routes[0].route_id",
        "routes[1].destinations",
        "routes[2].destinations[0]",
        "routes[2].match.message_types[0]",
        "routes[2].route_id",
    ]


WORDS = st.sampled_from(["help", "stop", "order 7", "hello"])
ROUTES = st.builds(
    Route,
    st.just("r"),
    st.just(("bot",)),
    message_types=st.lists(st.sampled_from(["TEXT", "IMAGE"]), max_size=2).map(tuple),
    keywords=st.lists(WORDS, max_size=2).map(tuple),
    body_pattern=st.none() | st.sampled_from(["^h", "[0-9]"]),
    sender_prefixes=st.lists(st.sampled_from(["+44", "+49"]), max_size=1).map(tuple),
    is_reply=st.none() | st.booleans(),
    has_referral=st.none() | st.booleans(),
)
FACTS = st.builds(
    MessageFacts,
    st.sampled_from([("TEXT",), ("IMAGE",)]),
    st.sampled_from(["whatsapp:+441", "whatsapp:+491"]),
    st.none() | WORDS,
    st.none(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ROUTES, max_size=5), FACTS)
def test_explain_and_decide_never_disagree(routes: list[Route], message: MessageFacts) -> None:
    named = tuple(
        Route(f"r{index}", route.destinations, route.message_types, route.keywords, route.body_pattern,
              route.sender_prefixes, route.button_payloads, route.is_reply, route.has_referral)
        for index, route in enumerate(routes)
    )  # fmt: skip
    compiled = compile_routes(named)

    decision = decide(a_channel(routes=named), compiled, message, "")
    explanations = explain(compiled, message)

    matched = [explanation.route_id for explanation in explanations if not explanation.mismatches]
    assert matched == ([decision.route_id] if decision.route_id else [])
    assert len(explanations) == (len(named) if not matched else int(matched[0][1:]) + 1)
