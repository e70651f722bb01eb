"""Warns of routes that can never match. Never a false alarm: it looks at one earlier route at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
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
    hours = _Hours(index)
    unshared = 0
    for number, route in enumerate(index.routes):
        if route.basis_points == 0:
            yield RouteWarning(route.route_id, "can never match: its percentage is 0")
            continue
        if shadow := _find_shadow(index, hours, number, unshared):
            reason = f'can never match: the earlier route "{shadow.route_id}" takes everything that it asks for'
            yield RouteWarning(route.route_id, reason)
        if route.basis_points in {None, WHOLE}:
            unshared |= 1 << number


def _find_shadow(index: RouteIndex, hours: _Hours, number: int, earlier: int) -> Route | None:
    """Return the first of the earlier routes that every message matches which matches this one."""
    for admitting in _admitting_each(index, index.routes[number]):
        earlier &= admitting
    earlier &= hours.perhaps_open_while(number)
    while earlier:
        first = earlier & -earlier
        candidate = first.bit_length() - 1
        if hours.is_open_while(candidate, number):
            return index.routes[candidate]
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


class _Hours:
    """When each route is open: compared within one time zone, unless it always is."""

    def __init__(self, index: RouteIndex) -> None:
        self._index = index
        self._minutes = [_open_minutes(route.time_windows) for route in index.routes]
        self._always = index.windows.without
        for number, minutes in enumerate(self._minutes):
            if _WHOLE_WEEK in minutes.values():
                self._always |= 1 << number

    def perhaps_open_while(self, number: int) -> int:
        """Return the routes that may be open whenever this one is, by a look at its first and last minutes."""
        open_then = -1 if self._minutes[number] else 0
        for time_zone, minutes in self._minutes[number].items():
            open_then &= self._index.admitting_minute(time_zone, (minutes & -minutes).bit_length() - 1)
            open_then &= self._index.admitting_minute(time_zone, minutes.bit_length() - 1)
        return self._always | open_then

    def is_open_while(self, earlier: int, later: int) -> bool:
        """Whether one route, which may be, is open whenever the other one is."""
        if self._always & (1 << earlier):
            return True
        minutes = self._minutes[earlier]
        return all(not wanted & ~minutes.get(zone, 0) for zone, wanted in self._minutes[later].items())


def _open_minutes(windows: Sequence[TimeWindow]) -> Mapping[str, int]:
    """Return the minutes of the week that are in a window of each time zone, as a set of bits."""
    minutes: dict[str, int] = defaultdict(int)
    for window in windows:
        if find_zone(window.time_zone):
            for begin, end in spans_of(window):
                minutes[window.time_zone] |= ((1 << (end - begin)) - 1) << begin
    return minutes
