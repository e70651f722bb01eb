"""What a route asks for, one condition at a time: plain, and with a reason for each that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from service.models import MessageFacts, Route, TimeWindow
from service.routing.patterns import compile_pattern
from service.routing.shares import is_in_share
from service.routing.texts import canonical_type, phrase_of, without_scheme
from service.routing.windows import find_zone, is_within, read_clock

Condition = Callable[[MessageFacts], str]
"""Returns why a message doesn't match, as a sentence without its text; nothing when it does."""

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Explanation(NamedTuple):
    """What one route says to a message; no mismatches means that it matches."""

    route_id: str
    mismatches: Sequence[str]


def explain(routes: Sequence[Route], facts: MessageFacts) -> Sequence[Explanation]:
    """Ask each route in order, up to and with the one that matches."""
    explanations: list[Explanation] = []
    for route in routes:
        mismatches = [reason for condition in _conditions(route) if (reason := condition(facts))]
        explanations.append(Explanation(route.route_id, mismatches))
        if not mismatches:
            break
    return explanations


def _conditions(route: Route) -> Iterator[Condition]:
    yield from _content_conditions(route)
    yield from _context_conditions(route)


def _content_conditions(route: Route) -> Iterator[Condition]:
    if route.message_types:
        yield _type_condition(route.message_types)
    if route.keywords:
        yield _keyword_condition(route.keywords)
    if route.body_pattern is not None:
        yield _pattern_condition(route.body_pattern)
    if route.button_payloads:
        yield _payload_condition(route.button_payloads)


def _context_conditions(route: Route) -> Iterator[Condition]:
    if route.sender_prefixes:
        yield _prefix_condition(route.sender_prefixes)
    if route.is_reply is not None:
        yield _reply_condition(is_reply=route.is_reply)
    if route.has_referral is not None:
        yield _referral_condition(has_referral=route.has_referral)
    if route.time_windows:
        yield _window_condition(route.time_windows)
    if route.basis_points is not None:
        yield _share_condition(route.route_id, route.basis_points)


def _type_condition(types: Sequence[str]) -> Condition:
    names = {canonical_type(name) for name in types}
    return lambda facts: "message_types: none is the message's type" if names.isdisjoint(facts.type_names) else ""


def _keyword_condition(keywords: Sequence[str]) -> Condition:
    phrases = [phrase_of(keyword) for keyword in keywords]

    def check(facts: MessageFacts) -> str:
        words = phrase_of(facts.body or "")
        return "" if any(phrase in words for phrase in phrases) else "keywords: none occurs in the body"

    return check


def _pattern_condition(pattern: str) -> Condition:
    compiled = compile_pattern(pattern)

    def check(facts: MessageFacts) -> str:
        is_found = facts.body is not None and compiled.search(facts.body) is not None
        return "" if is_found else "body_pattern: not found in the body"

    return check


def _prefix_condition(sender_prefixes: Sequence[str]) -> Condition:
    prefixes = tuple(without_scheme(prefix) for prefix in sender_prefixes)
    mismatch = "sender_prefixes: the sender has none of them"
    return lambda facts: "" if without_scheme(facts.sender).startswith(prefixes) else mismatch


def _payload_condition(payloads: Sequence[str]) -> Condition:
    mismatch = "button_payloads: none is the tapped button's payload"
    return lambda facts: "" if facts.button_payload in payloads else mismatch


def _reply_condition(*, is_reply: bool) -> Condition:
    mismatch = f"is_reply: the message is {'no' if is_reply else 'a'} reply"
    return lambda facts: "" if facts.is_reply is is_reply else mismatch


def _referral_condition(*, has_referral: bool) -> Condition:
    mismatch = f"has_referral: the message has {'no' if has_referral else 'a'} referral"
    return lambda facts: "" if facts.has_referral is has_referral else mismatch


def _window_condition(windows: Sequence[TimeWindow]) -> Condition:
    def check(facts: MessageFacts) -> str:
        if any(is_within(window, facts.received_at) for window in windows):
            return ""
        zones = dict.fromkeys(window.time_zone for window in windows)
        clocks = ", ".join(_clock_text(zone, facts.received_at) for zone in zones)
        return f"time_windows: none was open when the message was received: {clocks}"

    return check


def _clock_text(time_zone: str, at: int) -> str:
    zone = find_zone(time_zone)
    if zone is None:
        return f"the service doesn't know the time zone {time_zone}"
    clock = read_clock(zone, at)
    return f"{_DAYS[clock.day - 1]} {clock.minute // 60:02}:{clock.minute % 60:02} in {time_zone}"


def _share_condition(route_id: str, basis_points: int) -> Condition:
    mismatch = f"percentage: the conversation is not among the {basis_points / 100:g} %"

    def check(facts: MessageFacts) -> str:
        return "" if is_in_share(basis_points, route_id, facts.channel_config_id, facts.sender) else mismatch

    return check
