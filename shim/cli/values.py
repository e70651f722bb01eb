"""The values that options take: durations, points in time, addresses of the service, names. Pure."""

import re
from datetime import UTC, datetime, timedelta

import click

from shim.cli.identity import MOST_CHARACTERS, is_printable_ascii

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", re.ASCII)
_MAX_SECONDS = 10_000 * _UNITS["d"]


def duration_seconds(text: str) -> float:
    """Read `0`, `90s`, `15m`, `24h` or `7d`. Raises `ValueError` for anything else."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError("write it like 90s, 15m, 24h or 7d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _MAX_SECONDS:
        raise ValueError("10000d is the longest")
    return seconds


def point_in_time(text: str, now: datetime) -> datetime:
    """Read an ISO 8601 time (UTC when it names no zone), or how long ago. Raises `ValueError`."""
    if _DURATION.fullmatch(text):
        return now - timedelta(seconds=duration_seconds(text))
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("write a time like 2026-11-22T17:00:00Z, or how long ago like 2h") from error


def service_fault(text: str) -> str | None:
    """Tell what is wrong with an address of the service, naming every bad part; None when it is right."""
    if text.startswith(("dns:///", "unix:")):
        return None
    bad = [part for part in text.split(",") if not _is_address(part)]
    return f"{', '.join(map(repr, bad))}: write HOST:PORT[,HOST:PORT…] or dns:///NAME:PORT" if bad else None


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[1]) < 65_536


def as_duration(value: str) -> float:
    """Convert an option: a duration, or a bare number of seconds."""
    try:
        return float(value) if _NUMBER.fullmatch(value) else duration_seconds(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.") from error


def as_timeout(value: str) -> float:
    """Convert an option: a duration of more than 0."""
    seconds = as_duration(value)
    if not seconds:
        raise click.BadParameter("0 leaves no time for an answer; the default is 10s.")
    return seconds


def as_grace(value: str) -> float:
    """Convert an option: a duration whose unit must be said, since a wrong one would lock the provider out."""
    try:
        return duration_seconds(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.") from error


def as_time(value: str) -> datetime:
    """Convert an option: a point in time."""
    try:
        return point_in_time(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.") from error


def as_operator(value: str) -> str:
    """Convert an option: who the audit log is to name."""
    if not is_printable_ascii(value) or not 0 < len(value.strip()) <= MOST_CHARACTERS:
        raise click.BadParameter(f"write 1 to {MOST_CHARACTERS} printable ASCII characters, like ada@desk-3.")
    return value.strip()


def as_service(value: str) -> str:
    """Convert an option: where the service listens."""
    fault = service_fault(value)
    if fault:
        raise click.BadParameter(f"{fault}.")
    return value
