"""Time windows: hours of some days, in a time zone.

An instant is looked at as the wall clock of the zone shows it. So an hour that
a change of clocks skips is in no window, and one that it repeats is in it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from service.models import TimeWindow

DAY = 1440
WEEK = 7 * DAY

_LAST_SECOND = 253_402_000_000
"""In the year 9999: later ones, which only a forged time has, are looked at as this one."""


class WallClock(NamedTuple):
    """What a clock shows: the day, Monday is 1, and the minutes since midnight."""

    day: int
    minute: int

    @property
    def minute_of_week(self) -> int:
        """The minutes since Monday began."""
        return (self.day - 1) * DAY + self.minute


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo | None:
    """Return a time zone, None when this machine doesn't know it."""
    if name in {"localtime", "posixrules"} or name.startswith(("posix/", "right/")):
        return None  # files beside the zones, which differ from machine to machine
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def read_clock(zone: ZoneInfo, at: int) -> WallClock:
    """Return what a clock in the zone shows at a time in microseconds since 1970."""
    seconds = min(max(at // 1_000_000, 0), _LAST_SECOND)
    local = datetime.fromtimestamp(seconds, zone)
    return WallClock(local.isoweekday(), local.hour * 60 + local.minute)


def is_within(window: TimeWindow, at: int) -> bool:
    """Whether a time in microseconds since 1970 is in the window. None is in one whose zone is not known here."""
    zone = find_zone(window.time_zone)
    if zone is None:
        return False
    clock = read_clock(zone, at)
    if window.start < window.end:
        return _begins_on(window, clock.day) and window.start <= clock.minute < window.end
    yesterday = (clock.day - 2) % 7 + 1
    return (_begins_on(window, clock.day) and window.start <= clock.minute) or (
        _begins_on(window, yesterday) and clock.minute < window.end
    )


def spans_of(window: TimeWindow) -> Iterator[tuple[int, int]]:
    """Yield where the window begins and ends, in minutes since Monday began; none goes past the week."""
    length = (window.end - window.start) % DAY or DAY
    for day in range(7):
        if _begins_on(window, day + 1):
            begin = day * DAY + window.start
            yield begin, min(begin + length, WEEK)
            if begin + length > WEEK:
                yield 0, begin + length - WEEK


def _begins_on(window: TimeWindow, day: int) -> bool:
    return not window.days or day in window.days
