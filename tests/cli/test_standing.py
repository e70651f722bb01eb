"""How `mo status` reads what it was told."""

from __future__ import annotations

from datetime import UTC, datetime

from aicc.mo.v1.channel_directory_pb2 import ShimReport
from aicc.mo.v1.message_archive_pb2 import ChannelActivity, GetSummaryResponse
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.standing import Details, Standing

NOW = 1_700_000_000


def ago(seconds: int) -> Timestamp:
    return Timestamp(seconds=NOW - seconds)


def standing(*shims: ShimReport, channels: tuple[ChannelActivity, ...] = ()) -> Standing:
    details = Details([], GetSummaryResponse(channels=channels), shims)
    return Standing("127.0.0.1:50051", "SERVING", details, datetime.fromtimestamp(NOW, UTC))


def test_a_shim_that_reports_and_journals_nothing_is_as_it_should_be() -> None:
    found = standing(ShimReport(host_id="a", report_time=ago(15)))
    assert found.degradations == []
    assert found.shim_columns()["reported"](ShimReport(report_time=ago(15))) == "15s ago"


def test_a_shim_is_silent_after_15_seconds() -> None:
    report = ShimReport(host_id="a", report_time=ago(16))
    found = standing(report)
    (reason,) = found.degradations
    assert reason.startswith('shim "a" has been silent for 16s')
    assert found.shim_columns()["reported"](report) == "16s ago, silent"
    (shim,) = found.to_json()["shims"]
    assert (shim["is_silent"], shim["seconds_since_report"]) == (True, 16.0)


def test_a_journal_that_is_not_empty_is_said_with_its_age() -> None:
    report = ShimReport(
        host_id="a",
        report_time=ago(1),
        journal_messages=7,
        journal_oldest_time=ago(90),
        journalling_since_time=ago(7_200),
    )
    assert standing(report).degradations == ['shim "a" journals for 2h: 7 messages wait in it, the oldest 1m 30s old']


def test_a_clock_that_is_behind_the_services_counts_as_no_time() -> None:
    channel = ChannelActivity(channel_config_id="C1", last_message_time=ago(-5))
    found = standing(ShimReport(host_id="a", report_time=ago(-5)), channels=(channel,))
    assert found.degradations == []
    assert found.to_json()["channels"][0]["seconds_since_last_message"] == 0


def test_what_the_service_could_not_tell_is_null_and_not_zero() -> None:
    found = Standing("127.0.0.1:50051", "NOT_SERVING", None, datetime.fromtimestamp(NOW, UTC))
    assert not found.is_serving
    assert found.to_json() == {
        "service": "127.0.0.1:50051",
        "status": "NOT_SERVING",
        "degraded": [],
        "destinations": None,
        "held": None,
        "quarantined": None,
        "channels": None,
        "shims": None,
    }
