"""What a valid route is. Pure; names every fault of every route at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.checks import NAME, check_destination
from service.errors import Violation
from service.models import Route, TimeWindow
from service.routing import check_pattern, find_zone

MOST_ROUTES = 1000
MOST_ALTERNATIVES = 1000
MOST_WINDOWS = 100


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
    yield from (Violation(f"match.{field}", text) for field, text in _check_match(route))


def _check_match(route: Route) -> Iterator[Violation]:
    for field, values in (
        ("message_types", route.message_types),
        ("keywords", route.keywords),
        ("sender_prefixes", route.sender_prefixes),
        ("button_payloads", route.button_payloads),
    ):
        yield from _check_alternatives(field, values)
    problem = check_pattern(route.body_pattern) if route.body_pattern is not None else None
    if problem:
        yield Violation("body_pattern", problem)
    if len(route.time_windows) > MOST_WINDOWS:
        yield Violation("time_windows", f"must be at most {MOST_WINDOWS}")
    for index, window in enumerate(route.time_windows[:MOST_WINDOWS]):
        yield from (Violation(f"time_windows[{index}].{field}", text) for field, text in _check_window(window))
    if route.basis_points is not None and not 0 <= route.basis_points <= 10_000:
        yield Violation("percentage", "must be 0 to 100, with at most two decimals")


def _check_alternatives(field: str, values: Sequence[str]) -> Iterator[Violation]:
    if len(values) > MOST_ALTERNATIVES:
        yield Violation(field, f"must be at most {MOST_ALTERNATIVES}")
    for index, value in enumerate(values[:MOST_ALTERNATIVES]):
        if not value.strip():
            yield Violation(f"{field}[{index}]", "must not be empty")


def _check_window(window: TimeWindow) -> Iterator[Violation]:
    if find_zone(window.time_zone) is None:
        yield Violation("time_zone", "is no IANA time zone; write one like Europe/Berlin, or UTC")
    for index, day in enumerate(window.days):
        if not 1 <= day <= 7:
            yield Violation(f"days[{index}]", "must be one of Monday to Sunday")
    if not 0 <= window.start < 1440:
        yield Violation("start", "must be HH:MM, 00:00 to 23:59")
    if not 0 <= window.end <= 1440:
        yield Violation("end", "must be HH:MM, 00:00 to 24:00")
