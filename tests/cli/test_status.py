"""`mo status` against a real service."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from urllib.request import urlopen

import grpc
import pytest
from aicc.mo.v1.channel_directory_pb2 import (
    ListShimsRequest,
    ListShimsResponse,
    ReportShimRequest,
    ReportShimResponse,
    ShimReport,
)
from aicc.mo.v1.message_archive_pb2 import GetSummaryRequest, GetSummaryResponse
from aicc.mo.v1.message_feed_pb2 import ListDestinationsRequest

from tests.cli.commands import Mo
from tests.cli.fake_service import fake_service
from tests.processes import running_service


def test_it_tells_health_and_what_waits_in_each_destination(mo: Mo) -> None:
    mo.create_channel("waiting", "--destination", "waiting")
    mo.ingest("waiting", "SM1", "SM2")
    mo("feed", "pull", "waiting", "--max", "1")
    shown = mo("status", "--json").object
    assert shown["status"] == "SERVING"
    (found,) = [item for item in shown["destinations"] if item["name"] == "waiting"]
    assert (found["backlog"], found["leased"]) == ("2", "1")
    assert "serving" in mo("status").stdout


def test_it_tells_what_waits_for_an_operator_and_what_came_in_on_each_channel(tmp_path: Path) -> None:
    with running_service(tmp_path) as process:
        mo = Mo(process.listen)
        mo.create_channel("one", "--no-destination")
        mo.ingest("one", "SM1", "SM2")
        mo.ingest("one", "SM1", body="another")
        mo.quarantine("one", q1=b"", q2=b"", q3=b"")
        shown = mo("status", "--json").object
        assert (shown["held"], shown["quarantined"], shown["degraded"], shown["shims"]) == ("2", "3", [], [])
        (channel,) = shown["channels"]
        assert (channel["channel_config_id"], channel["messages"], channel["clashes"]) == ("one", "2", "1")
        assert channel["recovered"] == "0"
        assert 0 <= channel["seconds_since_last_message"] < 60
        lines = [line.split() for line in mo("status").stdout.splitlines()]
        assert ["held", "2"] in lines
        assert ["quarantined", "3"] in lines
        assert any(line[:1] == ["one"] and line[-3:] == ["2", "0", "1"] for line in lines)


def test_a_shim_that_journals_is_said_and_is_no_failure(mo: Mo) -> None:
    report = ShimReport(host_id="edge-1", version="1.2.3", workers=2, journal_messages=340, journal_bytes=3 << 20)
    mo.call("ChannelDirectory/ReportShim", ReportShimRequest(report=report), ReportShimResponse.FromString)
    shown = mo("status").stdout
    assert "serving, degraded" in shown
    assert "edge-1" in shown
    assert "3.0 MiB" in shown
    whole = mo("status", "--json").object
    (shim,) = whole["shims"]
    assert (shim["workers"], shim["journal_messages"], shim["is_silent"]) == (2, "340", False)
    assert 0 <= shim["seconds_since_report"] < 15
    (reason,) = whole["degraded"]
    assert "340 messages" in reason


def test_what_the_service_runs_with_that_should_be_mended_is_said_and_counted(tmp_path: Path) -> None:
    with running_service(tmp_path, listen="0.0.0.0:0", insecure_listen=True) as process:
        mo = Mo(process.listen.replace("0.0.0.0", "127.0.0.1"))
        whole = mo("status", "--json").object
        assert "concerns" not in whole
        (reason,) = whole["degraded"]
        assert "--insecure-listen" in reason
        assert "serving, degraded" in mo("status").stdout
        with urlopen(f"http://{process.admin_listen}/metrics") as page:
            assert b"mo_service_concerns 1.0" in page.read()


@pytest.mark.parametrize(
    ("status", "code"), [(grpc.StatusCode.UNAVAILABLE, 0), (grpc.StatusCode.INTERNAL, 1)], ids=["counts", "fails"]
)
def test_all_else_is_told_while_what_waits_is_still_being_counted(status: grpc.StatusCode, code: int) -> None:
    def fail(_: ListDestinationsRequest, context: grpc.ServicerContext) -> NoReturn:
        context.abort(status, "what waits is still being counted; retry in a moment")

    shims = ListShimsResponse(shims=[ShimReport(host_id="edge-1", journal_messages=340)])
    with fake_service(
        MessageFeed_ListDestinations=(ListDestinationsRequest, fail),
        MessageArchive_GetSummary=(GetSummaryRequest, lambda *_: GetSummaryResponse(held=7, concerns=["mend it"])),
        ChannelDirectory_ListShims=(ListShimsRequest, lambda *_: shims),
    ) as mo:
        text = mo("status", code=code)
        whole = mo("status", "--json", code=code)

    assert "still being counted" in text.stderr
    if code == 0:
        assert all(part in text.stdout for part in ("serving, degraded", "mend it", "held", "edge-1"))
        assert (whole.object["destinations"], whole.object["held"]) == (None, "7")
        assert len(whole.object["degraded"]) == 3


def test_it_fails_when_the_service_is_gone_or_does_not_answer(tmp_path: Path) -> None:
    with running_service(tmp_path) as process:
        mo = Mo(process.listen)
        process.freeze()
        assert process.listen in mo("status", "--timeout", "0.5", code=1).stderr
        process.kill()
        assert "can't be reached" in mo("status", code=1).stderr
