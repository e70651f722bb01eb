"""Times and durations as the contract carries them. Pure."""

from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(time: datetime | None) -> Timestamp | None:
    """Return the time for a field, which stays absent without one."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def to_duration(seconds: float | None) -> Duration | None:
    """Return the duration for a field, to the microsecond; the field stays absent without one."""
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration


def to_seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    seconds: float = duration.ToMicroseconds() / 1_000_000
    return seconds
