"""What keeps running while something of ours stops, and what is left when the shim itself does."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aicc.mo.v1.channel_directory_pb2 import ListShimsRequest, ShimReport
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from prometheus_client import CollectorRegistry

from shim import hand_over
from shim.connection_limits import ConnectionLimits
from shim.flags import parse_target
from shim.health import Readiness
from shim.host import Host, check_journal
from shim.journal.drainer import JournalState
from shim.metrics import JournalMetrics
from shim.reports import make_report
from shim.service_tls import ServiceTls
from shim.settings import Address, Settings
from tests.certificates import Authority
from tests.processes import Process, running_service, running_shim
from tests.shim.caller import FORM, Caller, encode_request, post
from tests.shim.fake_service import FakeService
from tests.shim.running import Events, OpenShim
from tests.shim.traffic import traffic

IDLE = JournalState(messages=0, bytes=0, oldest_at=None, journalling_since=None, damaged=0, last_failure=None)
BUSY = JournalState(
    messages=3, bytes=500, oldest_at=1_700_000_000.0, journalling_since=1_700_000_005.0, damaged=0, last_failure="GONE"
)


async def journal_a_message(folder: Path, service: FakeService) -> None:
    """Leave one message in the journal of a shim that has ended, before a service that is away."""
    async with running_shim(folder, service=service.listen) as shim:
        await asyncio.to_thread(shim.wait_for_event, "directory_received")
        await service.stop()
        assert (await post(shim.listen)).status == 204
        await asyncio.to_thread(shim.wait_for_event, "hand_over_failed")


async def hand_over_only(folder: Path, service: FakeService) -> Process:
    shim = running_shim(folder, service=service.listen, hand_over_only=True)
    with pytest.raises(AssertionError, match="without the event 'listening'"):
        await shim.__aenter__()
    return shim


async def test_a_restart_of_the_service_fails_no_request(service: FakeService, tmp_path: Path) -> None:
    async with running_shim(tmp_path, service=service.listen, workers=2) as shim:
        await asyncio.to_thread(shim.wait_for_event, "directory_connected", occurrence=2)
        async with traffic(shim.listen) as callers:
            await callers.wait_for(100)
            await service.stop()
            await callers.wait_for(100)
            await service.start()
            await asyncio.to_thread(shim.wait_for_event, "journal_empty")
            await callers.wait_for(100)
    assert (set(callers.statuses), callers.faults.total()) == ({204}, 0)
    assert callers.accepted == {message.message_sid for message in service.messages}


async def test_the_workers_are_rolled_while_the_service_is_away_and_nothing_is_lost(
    service: FakeService, tmp_path: Path
) -> None:
    async with running_shim(tmp_path, service=service.listen, workers=2) as shim:
        await asyncio.to_thread(shim.wait_for_event, "directory_connected", occurrence=2)
        async with traffic(shim.listen) as callers:
            await callers.wait_for(100)
            await service.stop()
            os.kill(shim.pid, signal.SIGHUP)
            await asyncio.to_thread(shim.wait_for_event, "rolled")
            await callers.wait_for(100)
        await service.start()
        await asyncio.to_thread(shim.wait_for_event, "journal_empty")
    assert (set(callers.statuses), callers.faults.total()) == ({204}, 0)
    assert callers.accepted == {message.message_sid for message in service.messages}


async def test_a_retired_host_hands_over_its_journal(service: FakeService, tmp_path: Path) -> None:
    await journal_a_message(tmp_path, service)
    await service.start()
    shim = await hand_over_only(tmp_path, service)
    assert shim.wait() == 0
    assert "the journal is empty: 1 messages are handed over" in shim.stderr
    assert [message.message_sid for message in service.messages] == ["SM1"]
    assert (await hand_over_only(tmp_path, service)).wait() == 0


async def test_a_hand_over_that_is_interrupted_says_what_remains(service: FakeService, tmp_path: Path) -> None:
    await journal_a_message(tmp_path, service)
    shim = running_shim(tmp_path, service=service.listen, hand_over_only=True)
    entering = asyncio.create_task(shim.__aenter__())
    await asyncio.sleep(0)  # it is started
    await asyncio.to_thread(shim.wait_for_event, "hand_over_failed")
    shim.terminate()
    with pytest.raises(AssertionError, match="without the event 'listening'"):
        await entering
    assert shim.wait() == 1
    assert "1 messages remain in the journal" in shim.stderr


async def test_a_hand_over_beside_a_running_shim_says_what_it_waits_for(service: FakeService, tmp_path: Path) -> None:
    async with running_shim(tmp_path, service=service.listen):
        second = running_shim(tmp_path, service=service.listen, hand_over_only=True)
        entering = asyncio.create_task(second.__aenter__())
        await asyncio.sleep(0)  # it is started
        event = await asyncio.to_thread(second.wait_for_event, "journal_in_use")
        assert "stop" in event["action"]
    with pytest.raises(AssertionError, match="without the event 'listening'"):
        await entering
    assert second.wait() == 0  # its turn came when the shim had ended
    assert "the journal is empty" in second.stderr


async def test_what_the_service_still_refuses_is_no_success(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await journal_a_message(tmp_path, service)
    service.poison = {"SM1": grpc.StatusCode.INTERNAL}
    service.quarantine_failure = grpc.StatusCode.INTERNAL
    await service.start()
    anywhere = Address("127.0.0.1", 0)
    settings = Settings(anywhere, anywhere, parse_target(service.listen), tmp_path / "shim")
    # Here, not as a process of its own, which tries for a minute before it gives one up.
    assert await hand_over.hand_over_only(settings) == 1
    assert "the service refuses 1 messages" in capsys.readouterr().err
    service.poison = {}
    assert await hand_over.hand_over_only(settings) == 0
    assert service.from_journal == [True]


async def wait_for_report(channel: grpc.aio.Channel) -> ShimReport:
    """Return what the only shim has reported to a service, as soon as it has."""
    directory = ChannelDirectoryStub(channel)
    async with asyncio.timeout(50):
        while not (reports := (await directory.ListShims(ListShimsRequest())).shims):
            pass
    (report,) = reports
    return report


async def test_a_host_reports_itself_to_the_service(tmp_path: Path) -> None:
    async with (
        running_service(tmp_path) as service,
        running_shim(tmp_path, service=service.listen, host_id="host-7"),
        grpc.aio.insecure_channel(service.listen) as channel,
    ):
        report = await wait_for_report(channel)
    assert (report.host_id, report.workers, report.journal_messages) == ("host-7", 1, 0)
    assert report.version
    assert not report.HasField("journalling_since_time")


async def test_a_host_whose_certificate_does_not_fit_its_key_yet_reports_when_it_does(
    tmp_path: Path, events: Events
) -> None:
    authority = Authority(tmp_path)
    server, old, new = authority.issue_for_service(), authority.issue("shim"), authority.issue("shim", file="new")
    new.cert.replace(old.cert)  # a renewal that is half done
    tls = ServiceTls(authority.cert, old.cert, old.key)
    anywhere = Address("127.0.0.1", 0)
    roles = tmp_path / "roles.toml"
    roles.write_text('"anonymous" = ["shim", "read"]')
    with running_service(tmp_path, tls_cert=server.cert, tls_key=server.key, roles=roles) as service:
        settings = Settings(anywhere, anywhere, parse_target(service.listen), tmp_path / "shim", service_tls=tls)
        async with AsyncExitStack() as stack:
            channel = grpc.aio.secure_channel(service.listen, authority.trust())
            await stack.enter_async_context(channel)
            Host(stack, settings, JournalMetrics(CollectorRegistry())).keep_reporting(stack, lambda: 1)
            await events.wait_for("service_certificates_refused")
            new.key.replace(old.key)
            assert (await wait_for_report(channel)).workers == 1
    assert str(old.key) in events.facts("service_certificates_refused")["reason"]
    assert events.count("service_certificates_refused") == 1


def test_a_report_tells_how_the_journal_is() -> None:
    report = make_report("host-7", "1.0", 2, BUSY)
    assert (report.journal_messages, report.journal_bytes) == (3, 500)
    assert report.journal_oldest_time.seconds == 1_700_000_000
    assert report.journalling_since_time.seconds == 1_700_000_005


@pytest.mark.parametrize(
    ("changes", "reason", "readiness"),
    [
        ({}, "journalling", Readiness.DEGRADED),
        ({"messages": 0, "bytes": 1_000}, "journal_full", Readiness.NOT_READY),
        ({"messages": 0, "damaged": 1}, "journal_damaged", Readiness.DEGRADED),
        ({"messages": 0, "kept_aside": 1}, "journal_kept_aside", Readiness.DEGRADED),
    ],
)
def test_the_state_of_the_journal_is_a_reason(changes: dict[str, Any], reason: str, readiness: Readiness) -> None:
    (found,) = check_journal(replace(BUSY, **changes), max_bytes=1_000)
    assert (found.reason, found.readiness) == (reason, readiness)


def test_an_empty_journal_is_no_reason() -> None:
    assert list(check_journal(IDLE, max_bytes=1_000)) == []


async def test_past_its_connections_a_worker_lets_the_next_one_wait(open_shim_with: OpenShim) -> None:
    limits = ConnectionLimits(max_connections=2)
    async with open_shim_with(connections=limits) as shim, Caller(shim.listen) as first, Caller(shim.listen) as second:
        assert [(await caller.post()).status for caller in (first, second)] == [204, 204]
        async with Caller(shim.listen) as third:
            third.send(encode_request(FORM | {"MessageSid": "SM3"}))
            assert await shim.metric("mo_webhook_connections") == 2
            first.writer.close()
            assert (await third.read()).status == 204
    assert len(shim.service.messages) == 3


async def test_past_their_bytes_bodies_are_answered_with_503(open_shim_with: OpenShim) -> None:
    async with open_shim_with(connections=ConnectionLimits(max_body_bytes=2**18)) as shim:
        body = "&".join(f"{name}={value}" for name, value in FORM.items()) + "&Body=" + "x" * 200_000
        async with Caller(shim.listen) as first, Caller(shim.listen) as second:
            assert (await first.post(FORM | {"MessageSid": "SM0"})).status == 204
            shim.service.arrived.clear()
            shim.service.may_answer.clear()
            first.send(encode_request(body))
            await shim.service.arrived.wait()
            response = await second.post(body)
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            # What is refused takes no room: a small one is let in.
            second.send(encode_request(FORM | {"MessageSid": "SM2"}))
            shim.service.may_answer.set()
            assert [(await caller.read()).status for caller in (first, second)] == [204, 204]
        assert await shim.metric("mo_webhook_body_bytes") == 0
