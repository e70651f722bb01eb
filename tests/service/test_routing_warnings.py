"""Routes that can never match are warned of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.models import Route, TimeWindow
from service.routing import RouteIndex, find_warnings

OFFICE = TimeWindow("Europe/Berlin", (1, 2, 3, 4, 5), 540, 1020)
MORNING = TimeWindow("Europe/Berlin", (1, 2), 540, 720)


def a_rule(**matchers: object) -> Route:
    return Route("", ("bot",), **matchers)  # type: ignore[arg-type] # any matcher


def warned_of(*rules: Route) -> list[str]:
    named = [replace(rule, route_id=f"r{number}") for number, rule in enumerate(rules)]
    return [warning.route_id for warning in find_warnings(RouteIndex(named))]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(a_rule(), a_rule(keywords=("help",)), id="everything was taken"),
        pytest.param(a_rule(message_types=("text", "VEDIO")), a_rule(message_types=("VIDEO",)), id="fewer types"),
        pytest.param(a_rule(keywords=("help",)), a_rule(keywords=("please HELP me", "help!")), id="longer phrases"),
        pytest.param(a_rule(body_pattern="^x"), a_rule(body_pattern="^x", is_reply=True), id="the same pattern"),
        pytest.param(a_rule(sender_prefixes=("+44",)), a_rule(sender_prefixes=("whatsapp:+441",)), id="a prefix"),
        pytest.param(a_rule(button_payloads=("a", "b")), a_rule(button_payloads=("b",)), id="fewer payloads"),
        pytest.param(a_rule(is_reply=False), a_rule(is_reply=False, has_referral=True), id="one more condition"),
        pytest.param(a_rule(time_windows=(OFFICE,)), a_rule(time_windows=(MORNING,)), id="hours within the hours"),
        pytest.param(a_rule(time_windows=(OFFICE,)), a_rule(time_windows=(OFFICE,)), id="the same hours"),
        pytest.param(a_rule(time_windows=(TimeWindow(),)), a_rule(time_windows=(OFFICE,)), id="hours that never end"),
        pytest.param(
            a_rule(time_windows=(TimeWindow("Asia/Tokyo"),)), a_rule(), id="a window that never ends, anywhere"
        ),
        pytest.param(a_rule(basis_points=10_000), a_rule(basis_points=500), id="100 percent were taken"),
    ],
)
def test_a_route_is_shadowed_when_one_before_it_takes_all_that_it_asks_for(earlier: Route, later: Route) -> None:
    assert warned_of(earlier, later) == ["r1"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(a_rule(keywords=("help",)), a_rule(), id="the later one asks for less"),
        pytest.param(a_rule(message_types=("text",)), a_rule(message_types=("text", "image")), id="more types"),
        pytest.param(a_rule(keywords=("help",)), a_rule(keywords=("helpless",)), id="a longer word"),
        pytest.param(a_rule(keywords=("help me",)), a_rule(keywords=("me help",)), id="another order"),
        pytest.param(a_rule(keywords=("a",)), a_rule(keywords=("a b", "b")), id="one phrase of two"),
        pytest.param(a_rule(sender_prefixes=("+447",)), a_rule(sender_prefixes=("+44",)), id="a shorter prefix"),
        pytest.param(a_rule(is_reply=True), a_rule(is_reply=False), id="the opposite"),
        pytest.param(a_rule(time_windows=(MORNING,)), a_rule(time_windows=(OFFICE,)), id="longer hours"),
        pytest.param(
            a_rule(time_windows=(OFFICE,)),
            a_rule(time_windows=(replace(MORNING, time_zone="Europe/London"),)),
            id="another time zone",
        ),
        pytest.param(
            a_rule(time_windows=(replace(OFFICE, end=720), replace(OFFICE, start=780))),
            a_rule(time_windows=(OFFICE,)),
            id="the hour between the hours",
        ),
        pytest.param(a_rule(time_windows=(OFFICE,)), a_rule(), id="at any time"),
        pytest.param(a_rule(basis_points=9999), a_rule(), id="a share leaves the rest"),
        pytest.param(a_rule(basis_points=50), a_rule(basis_points=50), id="the same share is of other conversations"),
    ],
)
def test_a_route_is_not_warned_of_while_a_message_may_take_it(earlier: Route, later: Route) -> None:
    assert warned_of(earlier, later) == []


def test_windows_together_may_shadow_one() -> None:
    halves = (TimeWindow("UTC", (1,), 0, 720), TimeWindow("UTC", (1,), 720, 1440))

    assert warned_of(a_rule(time_windows=halves), a_rule(time_windows=(TimeWindow("UTC", (1,), 600, 800),))) == ["r1"]


def test_a_share_of_nobody_is_warned_of() -> None:
    assert warned_of(a_rule(basis_points=0), a_rule()) == ["r0"]


def test_a_warning_names_the_route_and_what_shadows_it() -> None:
    routes = [Route("vip", ("a",)), Route("rest", ("b",))]

    (warning,) = find_warnings(RouteIndex(routes))

    assert warning == ("rest", 'can never match: the earlier route "vip" takes everything that it asks for')
