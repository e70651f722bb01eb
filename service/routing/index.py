"""Finds the first route that matches, in a time that hardly grows with their number.

A set of routes is an integer, with one bit for each, the first route's lowest.
Every kind of matcher says which routes admit a message; what is left after all
of them matches, but for percentages, which are asked in the order of the routes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from service.models import MessageFacts, Route, TimeWindow
from service.routing.patterns import PatternSet
from service.routing.shares import is_in_share
from service.routing.texts import canonical_type, without_scheme, words_of
from service.routing.windows import find_zone, read_clock, spans_of


class Alternatives(NamedTuple):
    """The routes by one kind of matcher: those without it, and those with it by each thing that they accept."""

    without: int
    by_value: Mapping[Hashable, int]

    def admitting(self, values: Iterable[Hashable]) -> int:
        """Return the routes that admit a message which has these."""
        admitting = self.without
        for value in values:
            admitting |= self.by_value.get(value, 0)
        return admitting


class RouteIndex:
    """The routes of a channel, which have passed `check_routes`, ready to be asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self.everything = (1 << len(self.routes)) - 1
        self.types = self._sort(lambda route: map(canonical_type, route.message_types))
        self.phrases = self._sort(lambda route: (" ".join(words_of(keyword)) for keyword in route.keywords))
        self.patterns = self._sort(lambda route: () if route.body_pattern is None else (route.body_pattern,))
        self.prefixes = self._sort(lambda route: map(without_scheme, route.sender_prefixes))
        self.payloads = self._sort(lambda route: route.button_payloads)
        self.replies = self._sort(lambda route: () if route.is_reply is None else (route.is_reply,))
        self.referrals = self._sort(lambda route: () if route.has_referral is None else (route.has_referral,))
        self.windows = self._sort(lambda route: route.time_windows)
        self._prefix_lengths = sorted({len(str(prefix)) for prefix in self.prefixes.by_value})
        self._phrase_lengths = sorted({str(phrase).count(" ") + 1 for phrase in self.phrases.by_value if phrase})
        self._pattern_set = PatternSet([str(pattern) for pattern in self.patterns.by_value])
        self._calendars = _calendars(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def find(self, facts: MessageFacts) -> Route | None:
        """Return the first route that matches."""
        if not self.routes:
            return None
        left = self._admitting(facts)
        while left:
            first = left & -left
            route = self.routes[first.bit_length() - 1]
            if route.basis_points is None or is_in_share(
                route.basis_points, route.route_id, facts.channel_config_id, facts.sender
            ):
                return route
            left ^= first
        return None

    def _admitting(self, facts: MessageFacts) -> int:
        """Return the routes that match, but for percentages. Asks what costs more only while it matters."""
        left = self.everything
        left &= self.types.admitting(facts.type_names)
        left &= self.replies.admitting((facts.is_reply,))
        left &= self.referrals.admitting((facts.has_referral,))
        left &= self.payloads.admitting(() if facts.button_payload is None else (facts.button_payload,))
        left &= self.admitting_sender(facts.sender)
        if left & ~self.windows.without:
            left &= self._admitting_time(facts.received_at)
        if left & ~self.phrases.without:
            left &= self.admitting_words(words_of(facts.body or ""))
        if left & ~self.patterns.without:
            found = () if facts.body is None else self._pattern_set.find(facts.body)
            left &= self.patterns.admitting(found)
        return left

    def admitting_sender(self, sender: str) -> int:
        """Return the routes that admit a sender, or all that begin with this."""
        plain = without_scheme(sender)
        return self.prefixes.admitting([plain[:length] for length in self._prefix_lengths])

    def admitting_words(self, words: Sequence[str]) -> int:
        """Return the routes that admit a body with these words in this order."""
        admitting = self.phrases.without
        for length in self._phrase_lengths:
            phrases = set(words) if length == 1 else set(map(" ".join, zip(*_shifted(words, length), strict=False)))
            admitting |= self.phrases.admitting(self.phrases.by_value.keys() & phrases)
        return admitting

    def admitting_minute(self, time_zone: str, minute_of_week: int) -> int:
        """Return the routes that have a window in this time zone which is open then."""
        zone = find_zone(time_zone)
        calendar = self._calendars.get(zone) if zone else None
        return calendar.admitting(minute_of_week) if calendar else 0

    def _admitting_time(self, at: int) -> int:
        admitting = self.windows.without
        for zone, calendar in self._calendars.items():
            admitting |= calendar.admitting(read_clock(zone, at).minute_of_week)
        return admitting

    def _sort(self, accepts: Callable[[Route], Iterable[Hashable]]) -> Alternatives:
        without = 0
        by_value: dict[Hashable, int] = defaultdict(int)
        for number, route in enumerate(self.routes):
            values = set(accepts(route))
            for value in values:
                by_value[value] |= 1 << number
            if not values:
                without |= 1 << number
        return Alternatives(without, dict(by_value))


class _Calendar(NamedTuple):
    """The routes whose windows are open, in a week of one time zone: from each minute of `changes` on."""

    changes: Sequence[int]
    open_from: Sequence[int]

    def admitting(self, minute_of_week: int) -> int:
        return self.open_from[bisect_right(self.changes, minute_of_week) - 1]


def _calendars(routes: Sequence[Route]) -> Mapping[ZoneInfo, _Calendar]:
    dated: dict[str, list[tuple[TimeWindow, int]]] = defaultdict(list)
    for number, route in enumerate(routes):
        for window in route.time_windows:
            dated[window.time_zone].append((window, number))
    return {zone: _calendar(windows) for name, windows in dated.items() if (zone := find_zone(name))}


def _calendar(windows: Iterable[tuple[TimeWindow, int]]) -> _Calendar:
    """Go through the week, counting how many windows of each route are open."""
    steps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for window, number in windows:
        for begin, end in spans_of(window):
            steps[begin].append((number, 1))
            steps[end].append((number, -1))
    counts: dict[int, int] = defaultdict(int)
    now_open, changes, open_from = 0, [0], [0]
    for minute in sorted(steps):
        for number, step in steps[minute]:
            counts[number] += step
            if counts[number] == max(step, 0):  # the first one opened, or the last one closed
                now_open ^= 1 << number
        changes.append(minute)
        open_from.append(now_open)
    return _Calendar(changes, open_from)


def _shifted(words: Sequence[str], length: int) -> Sequence[Sequence[str]]:
    return [words[start:] for start in range(length)]
