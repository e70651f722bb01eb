"""Warns of routes that can never match. Never a false alarm: it looks at one earlier route at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from service.models import Route, TimeWindow
from service.routing.index import Alternatives, RouteIndex
from service.routing.shares import WHOLE
from service.routing.texts import canonical_type, words_of
from service.routing.windows import WEEK, find_zone, spans_of

_WHOLE_WEEK = (1 << WEEK) - 1


class RouteWarning(NamedTuple):
    """Something suspicious about a route, as a sentence."""

    route_id: str
    description: str


def find_warnings(index: RouteIndex) -> Iterator[RouteWarning]:
    """Yield the routes that no message can take, each with the reason."""
    unshared = 0
    for number, route in enumerate(index.routes):
        if route.basis_points == 0:
            yield RouteWarning(route.route_id, "can never match: its percentage is 0")
            continue
        if shadow := _find_shadow(index, route, unshared):
            reason = f'can never match: the earlier route "{shadow.route_id}" takes everything that it asks for'
            yield RouteWarning(route.route_id, reason)
        if route.basis_points in {None, WHOLE}:
            unshared |= 1 << number


def _find_shadow(index: RouteIndex, route: Route, earlier: int) -> Route | None:
    """Return the first of the earlier routes that every message matches which matches this one."""
    for admitting in _admitting_each(index, route):
        earlier &= admitting
    while earlier:
        first = earlier & -earlier
        candidate = index.routes[first.bit_length() - 1]
        if _is_open_while(candidate.time_windows, route.time_windows):
            return candidate
        earlier ^= first
    return None


def _admitting_each(index: RouteIndex, route: Route) -> Iterator[int]:
    """Yield, for all that the route accepts, which routes admit a message that has just this; windows are left out.

    What a route accepts is asked for like a message's: a phrase that holds another one's words, a
    prefix that begins with another one, are admitted like a body or a sender.
    """
    yield _admitting_all(index.types, map(canonical_type, route.message_types))
    yield _admitting_all(index.patterns, () if route.body_pattern is None else (route.body_pattern,))
    yield _admitting_all(index.payloads, route.button_payloads)
    yield _admitting_all(index.replies, () if route.is_reply is None else (route.is_reply,))
    yield _admitting_all(index.referrals, () if route.has_referral is None else (route.has_referral,))
    if not route.keywords:
        yield index.phrases.without
    if not route.sender_prefixes:
        yield index.prefixes.without
    yield from (index.admitting_words(words_of(keyword)) for keyword in route.keywords)
    yield from (index.admitting_sender(prefix) for prefix in route.sender_prefixes)


def _admitting_all(kind: Alternatives, values: Iterable[Hashable]) -> int:
    """Return the routes that admit each of these; those that don't look at this kind when there is none."""
    masks = [kind.admitting((value,)) for value in values]
    admitting = masks[0] if masks else kind.without
    for mask in masks:
        admitting &= mask
    return admitting


def _is_open_while(earlier: Sequence[TimeWindow], later: Sequence[TimeWindow]) -> bool:
    """Whether the earlier windows are open whenever the later ones are. Compares within one time zone."""
    if not earlier:
        return True
    open_minutes = _open_minutes(tuple(earlier))
    if _WHOLE_WEEK in open_minutes.values():
        return True
    later_minutes = _open_minutes(tuple(later))
    return bool(later) and all(not minutes & ~open_minutes.get(zone, 0) for zone, minutes in later_minutes.items())


@lru_cache(maxsize=1024)
def _open_minutes(windows: tuple[TimeWindow, ...]) -> Mapping[str, int]:
    """Return the minutes of the week that are in a window of each time zone, as a set of bits."""
    minutes: dict[str, int] = defaultdict(int)
    for window in windows:
        if find_zone(window.time_zone):
            for begin, end in spans_of(window):
                minutes[window.time_zone] |= ((1 << (end - begin)) - 1) << begin
    return minutes
