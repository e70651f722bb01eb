"""How a destination reads: the columns of a list, and the lines of one. Pure."""

from collections.abc import Callable
from datetime import datetime

from aicc.mo.v1.message_feed_pb2 import Destination, DestinationSettings
from google.protobuf.duration_pb2 import Duration

from shim.cli.proto_times import to_seconds
from shim.cli.texts import age_text, seconds_text, time_text


def destination_columns(now: datetime) -> dict[str, Callable[[Destination], str]]:
    """Return the columns of a list of destinations; ages are as of `now`."""
    return {
        "destination": lambda item: item.name,
        "backlog": lambda item: str(item.backlog),
        "leased": lambda item: str(item.leased),
        "oldest": lambda item: _oldest_age_text(item, now),
        "in/s": lambda item: _rate_text(item.in_rate),
        "out/s": lambda item: _rate_text(item.out_rate),
        "dead letters": lambda item: str(item.dead_letters),
        "consumers": lambda item: str(item.consumers),
    }


def destination_fields(item: Destination, now: datetime) -> dict[str, str]:
    """Return the lines of `show`: what waits, and how it delivers."""
    oldest = f"{time_text(item.oldest_commit_time)} ({_oldest_age_text(item, now)} ago)"
    return {
        "destination": item.name,
        "backlog": str(item.backlog),
        "leased": str(item.leased),
        "oldest": oldest if item.HasField("oldest_commit_time") else "",
        "in/s": _rate_text(item.in_rate),
        "out/s": _rate_text(item.out_rate),
        "dead letters": str(item.dead_letters),
        "consumers": str(item.consumers),
        **settings_fields(item.settings),
    }


def settings_fields(item: DestinationSettings) -> dict[str, str]:
    """Return how a destination delivers, each line named as the option that changes it."""
    return {
        "ack deadline": _duration_text(item.ack_deadline),
        "max attempts": str(item.max_attempts),
        "min backoff": _duration_text(item.min_backoff),
        "max backoff": _duration_text(item.max_backoff),
        "jitter": f"{item.backoff_jitter:g}",
        "ordered": "yes" if item.is_ordered else "no",
        "retention": _duration_text(item.retention),
    }


def _oldest_age_text(item: Destination, now: datetime) -> str:
    return age_text(item.oldest_commit_time, now) if item.HasField("oldest_commit_time") else ""


def _rate_text(rate: float) -> str:
    return f"{rate:.1f}"


def _duration_text(duration: Duration) -> str:
    """Return `0.1s`, `1m` or `30d`."""
    seconds = to_seconds(duration)
    return seconds_text(seconds) if seconds.is_integer() else f"{seconds:g}s"
