"""What is valid: names, keys, channels, routes. Pure; every function names all faults at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from service.errors import InvalidRequest, Violation
from service.models import Channel, Route
from service.routing import check_pattern

CHANNEL_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
NUMBER = re.compile(r"\+[0-9]{7,15}", re.ASCII)
PROVIDER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

MOST_ROUTES = 1000
MOST_ALTERNATIVES = 1000


def refuse(violations: Iterable[Violation]) -> None:
    """Raise `InvalidRequest` when there are any."""
    found = list(violations)
    if found:
        raise InvalidRequest(found)


def check_message_keys(channel_config_id: str, message_sid: str, sender: str, receiver: str) -> Sequence[Violation]:
    """Return what is wrong with the keys of a message (design 5.2)."""
    if _are_plain(channel_config_id, message_sid, sender, receiver):
        return ()
    violations = list(check_channel_id(channel_config_id))
    for field, value, most in (("message_sid", message_sid, 64), ("sender", sender, 256), ("receiver", receiver, 256)):
        violations += _check_text(field, value, most)
    return violations


def _are_plain(channel_config_id: str, message_sid: str, sender: str, receiver: str) -> bool:
    """Answer for nearly every message at once: all present, short enough and printable."""
    return (
        0 < len(message_sid) <= 64
        and 0 < len(sender) <= 256
        and 0 < len(receiver) <= 256
        and (message_sid + sender + receiver).isprintable()
        and CHANNEL_ID.fullmatch(channel_config_id) is not None
    )


def check_channel_id(value: str) -> Iterator[Violation]:
    if not CHANNEL_ID.fullmatch(value):
        yield Violation("channel_config_id", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ -")


def check_destination(value: str, field: str = "destination") -> Iterator[Violation]:
    yield from check_name(field, value)


def check_name(field: str, value: str) -> Iterator[Violation]:
    if not NAME.fullmatch(value):
        yield Violation(field, "must be 1 to 128 of A-Z a-z 0-9 . _ -")


def check_channel(channel: Channel) -> Iterator[Violation]:
    """Find what is wrong with a channel, but for its routes and hashes."""
    yield from check_channel_id(channel.channel_config_id)
    if not PROVIDER.fullmatch(channel.provider):
        yield Violation("provider", "must be 1 to 64 of a-z 0-9 -, for example twilio")
    if channel.number and not NUMBER.fullmatch(channel.number):
        yield Violation("number", "must be + and 7 to 15 digits, or empty")
    yield from _check_text("webhook_user", channel.credentials.webhook_user, 128)
    if ":" in channel.credentials.webhook_user:
        yield Violation("webhook_user", "must not hold a colon: Basic credentials end the user with one")
    if channel.destination is not None:
        yield from check_destination(channel.destination)


def check_password(password: str) -> Iterator[Violation]:
    yield from _check_text("password", password, 256)


def check_routes(routes: Sequence[Route]) -> Iterator[Violation]:
    """Find everything that is wrong with every route."""
    if len(routes) > MOST_ROUTES:
        yield Violation("routes", f"must be at most {MOST_ROUTES}")
    seen: set[str] = set()
    for index, route in enumerate(routes[:MOST_ROUTES]):
        path = f"routes[{index}]"
        if route.route_id in seen:
            yield Violation(f"{path}.route_id", "is the id of an earlier route too")
        seen.add(route.route_id)
        yield from (Violation(f"{path}.{field}", text) for field, text in _check_route(route))


def _check_route(route: Route) -> Iterator[Violation]:
    if not NAME.fullmatch(route.route_id):
        yield Violation("route_id", "must be 1 to 128 of A-Z a-z 0-9 . _ -")
    if not 1 <= len(route.destinations) <= 16:
        yield Violation("destinations", "must be 1 to 16")
    if len(set(route.destinations)) < len(route.destinations):
        yield Violation("destinations", "must not name one twice")
    for index, name in enumerate(route.destinations):
        yield from check_destination(name, f"destinations[{index}]")
    for field, values in (
        ("message_types", route.message_types),
        ("keywords", route.keywords),
        ("sender_prefixes", route.sender_prefixes),
        ("button_payloads", route.button_payloads),
    ):
        yield from _check_alternatives(f"match.{field}", values)
    problem = check_pattern(route.body_pattern) if route.body_pattern is not None else None
    if problem:
        yield Violation("match.body_pattern", problem)


def _check_alternatives(field: str, values: Sequence[str]) -> Iterator[Violation]:
    if len(values) > MOST_ALTERNATIVES:
        yield Violation(field, f"must be at most {MOST_ALTERNATIVES}")
    for index, value in enumerate(values[:MOST_ALTERNATIVES]):
        if not value.strip():
            yield Violation(f"{field}[{index}]", "must not be empty")


def _check_text(field: str, value: str, most: int) -> Iterator[Violation]:
    if not value:
        yield Violation(field, "is required")
    if len(value) > most:
        yield Violation(field, f"must have at most {most} characters")
    if CONTROL.search(value):
        yield Violation(field, "must not hold control characters")
