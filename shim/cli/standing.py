"""How the whole gateway stands, as `mo status` shows it. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aicc.mo.v1.channel_directory_pb2 import ShimReport
from aicc.mo.v1.message_archive_pb2 import ChannelActivity, GetSummaryResponse
from aicc.mo.v1.message_feed_pb2 import Destination
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.output import json_object
from shim.cli.texts import age_text, bytes_text, seconds_text

SILENT_SECONDS = 15.0
"""A shim that has not reported for longer is called silent: it reports every 5 s."""


@dataclass(frozen=True, slots=True)
class Details:
    """What a service that serves tells; `uncounted` is why it can't tell the destinations yet, else empty."""

    destinations: Sequence[Destination]
    summary: GetSummaryResponse
    shims: Sequence[ShimReport]
    uncounted: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The service's health, and its details unless it couldn't tell them."""

    service: str
    health: str
    details: Details | None
    now: datetime

    @property
    def is_serving(self) -> bool:
        """Whether the service does its work, degraded or not."""
        return self.health == "SERVING"

    @property
    def degradations(self) -> list[str]:
        """Return what the service says should be mended, and a sentence for each shim that journals or is silent."""
        if self.details is None:
            return []
        of_shims = [text for shim in self.details.shims for text in _degradations(shim, self.now)]
        return [*self.details.summary.concerns, *of_shims]

    def to_json(self) -> dict[str, Any]:
        """Return one object of it all; what the service couldn't tell is null."""
        known = {"service": self.service, "status": self.health, "degraded": self.degradations}
        if self.details is None:
            return known | dict.fromkeys(("destinations", "held", "quarantined", "channels", "shims"))
        summary = json_object(self.details.summary)
        summary.pop("concerns", None)  # they are among what is degraded
        summary["channels"] = [self._channel_json(item) for item in self.details.summary.channels]
        destinations = [json_object(item) for item in self.details.destinations]
        return {
            **known,
            "destinations": None if self.details.uncounted else destinations,
            **summary,
            "shims": [self._shim_json(item) for item in self.details.shims],
        }

    @property
    def dead_letters(self) -> list[str]:
        """Return a sentence for each destination that has some, and what to do. That is no degradation."""
        destinations = self.details.destinations if self.details else ()
        return [
            f"{item.dead_letters} of {item.name}; see: mo dead-letter list --destination {item.name}"
            for item in destinations
            if item.dead_letters
        ]

    def channel_columns(self) -> dict[str, Callable[[ChannelActivity], str]]:
        """Return what came in on a channel."""
        return {
            "channel": lambda item: item.channel_config_id,
            "last message": lambda item: (
                age_text(item.last_message_time, self.now) if item.HasField("last_message_time") else ""
            ),
            "messages": lambda item: str(item.messages),
            "recovered": lambda item: str(item.recovered),
            "clashes": lambda item: str(item.clashes),
        }

    def shim_columns(self) -> dict[str, Callable[[ShimReport], str]]:
        """Return how a shim host is."""
        return {
            "shim": lambda item: item.host_id,
            "version": lambda item: item.version,
            "workers": lambda item: str(item.workers),
            "journal": lambda item: str(item.journal_messages),
            "size": lambda item: bytes_text(item.journal_bytes),
            "oldest": lambda item: (
                age_text(item.journal_oldest_time, self.now) if item.HasField("journal_oldest_time") else ""
            ),
            "journalling for": lambda item: (
                age_text(item.journalling_since_time, self.now) if item.HasField("journalling_since_time") else ""
            ),
            "reported": lambda item: (
                f"{age_text(item.report_time, self.now)} ago{', silent' if _is_silent(item, self.now) else ''}"
            ),
        }

    def _channel_json(self, item: ChannelActivity) -> dict[str, Any]:
        has_time = item.HasField("last_message_time")
        return json_object(item) | {
            "seconds_since_last_message": _seconds_since(item.last_message_time, self.now) if has_time else None
        }

    def _shim_json(self, item: ShimReport) -> dict[str, Any]:
        return json_object(item) | {
            "seconds_since_report": _seconds_since(item.report_time, self.now),
            "is_silent": _is_silent(item, self.now),
        }


def _degradations(shim: ShimReport, now: datetime) -> Iterator[str]:
    if _is_silent(shim, now):
        silence = seconds_text(_seconds_since(shim.report_time, now))
        yield f'shim "{shim.host_id}" has been silent for {silence}: see whether it runs and reaches the service'
    if shim.journal_messages or shim.HasField("journalling_since_time"):
        since = f" for {age_text(shim.journalling_since_time, now)}" if shim.HasField("journalling_since_time") else ""
        oldest = (
            f", the oldest {age_text(shim.journal_oldest_time, now)} old"
            if shim.HasField("journal_oldest_time")
            else ""
        )
        yield f'shim "{shim.host_id}" journals{since}: {shim.journal_messages} messages wait in it{oldest}'


def _is_silent(shim: ShimReport, now: datetime) -> bool:
    return _seconds_since(shim.report_time, now) > SILENT_SECONDS


def _seconds_since(time: Timestamp, now: datetime) -> float:
    """Return how long ago that was in seconds; 0 when this machine's clock is behind the service's."""
    return max(0.0, round((now - time.ToDatetime(tzinfo=UTC)).total_seconds(), 3))
