"""Decides where a message goes. Pure: the same channel and message give the same decision.

Patterns are RE2: linear in the text, so a customer's message can't stall it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import re2

from service.errors import Violation
from service.models import Channel, ChannelState, Decision, HoldReason, MessageFacts, Route

HOLDING_STATES = {
    ChannelState.PAUSED: HoldReason.CHANNEL_PAUSED,
    ChannelState.DISABLED: HoldReason.CHANNEL_DISABLED,
    ChannelState.DELETED: HoldReason.CHANNEL_DELETED,
}

Matcher = Callable[[MessageFacts], bool]


class Condition(NamedTuple):
    """One thing that a route asks for, and the sentence for a message that lacks it."""

    matches: Matcher
    mismatch: str


class CompiledRoute(NamedTuple):
    """A route ready to be asked."""

    route: Route
    conditions: Sequence[Condition]

    def matches(self, facts: MessageFacts) -> bool:
        """Whether every condition holds."""
        return all(condition.matches(facts) for condition in self.conditions)


class Explanation(NamedTuple):
    """What one route says to a message; no mismatches means that it matches."""

    route_id: str
    mismatches: Sequence[str]


def decide(channel: Channel, routes: Sequence[CompiledRoute], facts: MessageFacts, receiver: str) -> Decision:
    """Route a message that comes in; the channel's state or number may hold it all the same."""
    decision = route(channel, routes, facts)
    if channel.state is not ChannelState.ENABLED:
        return decision._replace(hold_reason=HOLDING_STATES[channel.state])
    if channel.number and _without_scheme(receiver) != channel.number:
        return decision._replace(hold_reason=HoldReason.RECIPIENT_MISMATCH)
    return decision


def route(channel: Channel | None, routes: Sequence[CompiledRoute], facts: MessageFacts) -> Decision:
    """Decide by the routes (the first match wins), then the channel's destination; else the message is held."""
    match = next((compiled.route for compiled in routes if compiled.matches(facts)), None)
    if match:
        return Decision(match.destinations, None, match.route_id, channel.route_revision if channel else 0)
    destinations = (channel.destination,) if channel and channel.destination else ()
    hold_reason = None if destinations else HoldReason.UNROUTED
    return Decision(destinations, hold_reason, "", channel.route_revision if channel else 0)


def explain(routes: Sequence[CompiledRoute], facts: MessageFacts) -> Sequence[Explanation]:
    """Ask each route in order, up to and with the one that matches."""
    explanations: list[Explanation] = []
    for compiled in routes:
        mismatches = [condition.mismatch for condition in compiled.conditions if not condition.matches(facts)]
        explanations.append(Explanation(compiled.route.route_id, mismatches))
        if not mismatches:
            break
    return explanations


def compile_routes(routes: Sequence[Route]) -> Sequence[CompiledRoute]:
    """Make routes ready to be asked. They have passed `check_routes`."""
    return tuple(CompiledRoute(route, tuple(_conditions(route))) for route in routes)


def _conditions(route: Route) -> Iterator[Condition]:
    if route.message_types:
        names = {canonical_type(name) for name in route.message_types}
        yield Condition(
            lambda facts: not names.isdisjoint(facts.type_names), "message_types: none is the message's type"
        )
    if route.keywords:
        phrases = [words_of(keyword) for keyword in route.keywords]
        yield Condition(lambda facts: _has_phrase(facts.body, phrases), "keywords: none occurs in the body")
    if route.body_pattern is not None:
        pattern = re2.compile(route.body_pattern, _quiet_options())
        yield Condition(
            lambda facts: facts.body is not None and pattern.search(facts.body) is not None,
            "body_pattern: not found in the body",
        )
    if route.sender_prefixes:
        prefixes = tuple(_without_scheme(prefix) for prefix in route.sender_prefixes)
        yield Condition(
            lambda facts: _without_scheme(facts.sender).startswith(prefixes),
            "sender_prefixes: the sender has none of them",
        )
    if route.button_payloads:
        payloads = frozenset(route.button_payloads)
        yield Condition(
            lambda facts: facts.button_payload in payloads, "button_payloads: none is the tapped button's payload"
        )
    if route.is_reply is not None:
        yield Condition(
            lambda facts: facts.is_reply is route.is_reply, f"is_reply: the message is {_a_reply(not route.is_reply)}"
        )
    if route.has_referral is not None:
        yield Condition(
            lambda facts: facts.has_referral is route.has_referral,
            f"has_referral: the message has {'no' if route.has_referral else 'a'} referral",
        )


def _a_reply(is_reply: bool) -> str:
    return "a reply" if is_reply else "no reply"


def canonical_type(name: str) -> str:
    """Return the name under which a message type is compared: upper case, VEDIO as VIDEO."""
    upper = name.strip().upper()
    return "VIDEO" if upper == "VEDIO" else upper


@lru_cache(maxsize=1)
def _words() -> re2._Regexp[str]:
    """Words and single signs: so a keyword is a whole word, in any script, or an emoji."""
    return re2.compile(r"[\pL\pN\pM_]+|[^\pL\pN\pM_\s]", _quiet_options())


def words_of(text: str) -> str:
    """Return the words of a text, folded and with a space on each side, so that phrases are substrings."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return f" {' '.join(_words().findall(folded))} "


def _has_phrase(body: str | None, phrases: Sequence[str]) -> bool:
    if not body:
        return False
    words = words_of(body)
    return any(phrase in words for phrase in phrases)


def _without_scheme(sender: str) -> str:
    return sender.removeprefix("whatsapp:")


def _quiet_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # a bad pattern is the caller's news, not stderr's
    return options


def check_pattern(pattern: str) -> str | None:
    """Return what is wrong with a body pattern, None when it is fine."""
    if len(pattern) > 1000:
        return "has more than 1,000 characters"
    try:
        re2.compile(pattern, _quiet_options())
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
        return f"is no RE2 expression: {reason}"
    return None


__all__ = [
    "CompiledRoute",
    "Explanation",
    "Violation",
    "canonical_type",
    "check_pattern",
    "compile_routes",
    "decide",
    "explain",
    "words_of",
]
