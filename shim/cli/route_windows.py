"""Time windows as a person writes them: in a route file, and in a list. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aicc.mo.v1.channel_directory_pb2 import DayOfWeek, TimeWindow

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = {
    name: number
    for number, (short, whole) in enumerate(zip(_DAYS, DayOfWeek.keys()[1:], strict=True))
    for name in (short, whole.lower(), whole.removeprefix("DAY_OF_WEEK_").lower())
}
"""`mon`, `monday`, and what the contract's JSON has, at the place of the day in the week."""
_KEYS = ("time_zone", "days", "start", "end")


def window_faults(value: Any) -> Iterator[str]:
    """Yield what is wrong with a window out of a file. Whether its values make sense is the service's to say."""
    if not isinstance(value, dict):
        yield 'must be a table, like { time_zone = "UTC", days = ["mon-fri"], start = "09:00", end = "17:00" }'
        return
    for key, entry in value.items():
        if key not in _KEYS:
            yield f"has an unknown key `{key}`; there are {', '.join(_KEYS)}"
        elif key == "days":
            yield from _day_faults(entry)
        elif not isinstance(entry, str):
            yield f'has a `{key}` that is no string; write one like "09:00" or "Europe/Berlin"'


def _day_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield 'has `days` that are no list; write one like ["mon-fri", "sun"]'
        return
    known = ", ".join(_DAYS)
    yield from (f"has {day!r} in `days`; write {known}, or a range like mon-fri" for day in value if not _is_day(day))


def read_window(value: Mapping[str, Any]) -> TimeWindow:
    """Return a window that has no faults."""
    days = [DayOfWeek.values()[place + 1] for text in value.get("days", ()) for place in _places(text)]
    texts = {key: value[key] for key in ("time_zone", "start", "end") if key in value}
    return TimeWindow(days=dict.fromkeys(days), **texts)


def toml_window(window: TimeWindow) -> dict[str, str | list[str]]:
    """Return what `read_window` turns into this window again, without what is empty."""
    days = [_short(day) for day in window.days]
    entries: dict[str, str | list[str]] = {
        "time_zone": window.time_zone,
        "days": days,
        "start": window.start,
        "end": window.end,
    }
    return {key: value for key, value in entries.items() if value}


def window_text(window: TimeWindow) -> str:
    """Return `mon-fri 09:00-17:00 Europe/Berlin`."""
    hours = f"{window.start or '00:00'}-{window.end or '24:00'}"
    return f"{_days_text(window.days)} {hours} {window.time_zone or 'UTC'}"


def _days_text(days: Sequence[DayOfWeek.ValueType]) -> str:
    places = [day - 1 for day in days]
    if not places:
        return "daily"
    if len(places) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{_short(days[0])}-{_short(days[-1])}"
    return ",".join(map(_short, days))


def _short(day: DayOfWeek.ValueType) -> str:
    return _DAYS[day - 1] if 1 <= day <= 7 else str(day)


def _is_day(text: Any) -> bool:
    return isinstance(text, str) and all(name in _NAMES for name in _ends(text))


def _places(text: str) -> Iterable[int]:
    """Return the places in the week of `mon`, or of a range like `mon-fri` or `sat-mon`."""
    first, last = (_NAMES[name] for name in _ends(text))
    return (place % 7 for place in range(first, last + 1 if first <= last else last + 8))


def _ends(text: str) -> tuple[str, str]:
    first, dash, last = (part.strip().lower() for part in text.partition("-"))
    return first, last if dash else first
