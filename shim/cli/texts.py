"""How values read in a table. Pure."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def printable(text: str) -> str:
    """Escape what a terminal would act on instead of showing it."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    # Cf holds joiners that emoji need, and overrides that turn a line around; the latter are the danger.
    harmless = character.isprintable() or character in "\u200c\u200d"
    is_mark = unicodedata.category(character).startswith("M")
    return character if harmless or is_mark else character.encode("unicode_escape").decode("ascii")


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the columns aligned, two spaces between them."""
    table = [list(map(str.upper, headers))] if headers else []
    table += map(list, rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def enum_text(name: str, prefix: str) -> str:
    """Return `paused` for `CHANNEL_STATE_PAUSED`."""
    return name.removeprefix(prefix).lower().replace("_", "-")


def short_sender(sender: str) -> str:
    """Return `whatsapp:+4477…23`: enough to recognise a person by, not to call them."""
    scheme, colon, name = sender.rpartition(":")
    return f"{scheme}{colon}{name[:5]}…{name[-2:]}" if len(name) > 9 else f"{scheme}{colon}…"


def time_text(message: Timestamp | None) -> str:
    """Return `2026-11-22T17:00:00Z`; empty when there is none."""
    if message is None or message == Timestamp():
        return ""
    time = message.ToDatetime(tzinfo=UTC).replace(microsecond=message.nanos // 1_000_000 * 1_000)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_text(seconds: float) -> str:
    """Return `42s`, `7m 5s`, `3h 20m` or `12d 4h`; a clock that is behind counts as 0s."""
    whole = max(0, int(seconds))
    for unit, size, small_unit, small in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit} {rest}{small_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def bytes_text(count: int) -> str:
    """Return `0 B`, `512 B`, `1.5 KiB` or `10.0 GiB`."""
    if count < 1_024:
        return f"{count} B"
    size, unit = count / 1_024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1_024:
            break
        size, unit = size / 1_024, larger
    return f"{size:.1f} {unit}"


def age_text(message: Timestamp | None, now: datetime) -> str:
    """Return how long ago that was; empty when there is no time."""
    return seconds_text((now - message.ToDatetime(tzinfo=UTC)).total_seconds()) if message else ""
