"""What callers are told while the service is away, and what becomes of what is no message."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from aicc.mo.v1.channel_directory_pb2 import CHANNEL_STATE_DISABLED
from aicc.mo.v1.message_ingest_pb2 import INGEST_OUTCOME_REJECTED, IngestResult
from aicc.mo.v1.message_pb2 import FieldViolation

from shim.batch_limits import BatchLimits
from shim.metrics import QuarantineMetrics
from shim.quarantine import Quarantine, RefusedRequest
from tests.shim.caller import FORM, PATH, Caller
from tests.shim.fake_service import FakeService, make_replica
from tests.shim.journals import Host, until
from tests.shim.running import OpenShim, RunningShim


def form(sid: str) -> dict[str, str]:
    return FORM | {"MessageSid": sid}


def stored(service: FakeService) -> list[str]:
    return list(dict.fromkeys(message.message_sid for message in service.messages))


AWAY = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("code", AWAY, ids=str)
async def test_a_message_is_accepted_while_the_service_is_away_and_arrives_when_it_is_back(
    shim: RunningShim, code: grpc.StatusCode
) -> None:
    shim.service.ingest_failure = code
    sids = [f"SM{number}" for number in range(20)]
    for sid in sids:
        assert (await shim.post(form(sid))).status == 204
    assert await shim.answered("journalled") == 20
    assert await shim.metric("mo_journal_messages") == 20
    shim.service.ingest_failure = None
    shim.service.batches.clear()
    await shim.events.wait_for("journal_empty")
    assert stored(shim.service) == sids
    assert set(shim.service.from_journal) == {True}
    assert (await shim.post(form("SM-direct"))).status == 204
    assert shim.service.from_journal[-1] is False


async def test_only_the_first_message_waits_for_a_frozen_service(
    shim: RunningShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.link.BATCH_SECONDS", 2.0)
    shim.service.may_answer.clear()
    assert (await shim.post(form("SM1"))).status == 204
    async with asyncio.timeout(40):  # if each waited, it were 100
        for number in range(2, 52):
            assert (await shim.post(form(f"SM{number}"))).status == 204
    shim.service.may_answer.set()
    await shim.events.wait_for("journal_empty")
    assert stored(shim.service) == [f"SM{number}" for number in range(1, 52)]


async def test_what_the_journal_holds_survives_the_shim(open_shim_with: OpenShim, service: FakeService) -> None:
    async with open_shim_with() as shim:
        service.ingest_failure = grpc.StatusCode.UNAVAILABLE
        assert (await shim.post(form("SM1"))).status == 204
    service.ingest_failure = None
    service.batches.clear()
    async with open_shim_with():
        await until(lambda: stored(service) == ["SM1"])


async def test_a_message_that_the_service_chokes_on_costs_no_other_its_answer(shim: RunningShim) -> None:
    shim.service.poison["SM3"] = grpc.StatusCode.INTERNAL
    async with Caller(shim.listen) as first:
        await first.post(form("SM0"))
    responses = await asyncio.gather(*[shim.post(form(f"SM{number}")) for number in range(1, 10)])
    assert {response.status for response in responses} == {204}
    await until(lambda: len(shim.service.quarantined) == 1)
    (kept,) = shim.service.quarantined.values()
    assert kept.is_accepted
    assert b"SM3" in kept.body


async def test_past_the_journal_callers_get_503_until_there_is_room(open_shim_with: OpenShim) -> None:
    async with open_shim_with(max_journal_bytes=1_000) as shim:
        shim.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
        responses = [await shim.post(form(f"SM{number}")) for number in range(20)]
        statuses = [response.status for response in responses]
        kept = statuses.index(503)
        assert kept > 1
        assert statuses == [204] * kept + [503] * (20 - kept)
        assert responses[-1].headers["Retry-After"] == "1"
        shim.service.ingest_failure = None
        shim.service.batches.clear()
        await shim.events.wait_for("journal_empty")
        assert (await shim.post(form("SM-after"))).status == 204
        assert stored(shim.service) == [*[f"SM{number}" for number in range(kept)], "SM-after"]


async def test_what_the_batches_have_no_room_for_goes_to_the_journal(open_shim_with: OpenShim) -> None:
    limits = replace(BatchLimits(), max_in_flight=1, max_messages=1, max_waiting_messages=1)
    async with open_shim_with(batches=limits) as shim:
        assert (await shim.post(form("SM0"))).status == 204
        responses = await asyncio.gather(*[shim.post(form(f"SM{number}")) for number in range(1, 30)])
        assert {response.status for response in responses} == {204}
        assert await shim.answered("journalled") > 0
        await until(lambda: len(stored(shim.service)) == 30)


async def test_an_invalid_request_is_kept_raw_without_its_credentials(shim: RunningShim) -> None:
    body = b"From=%2B44&MessageSid=SM1&To=&x=%ff"[:-6]
    headers = (("X-Twilio-Signature", "abc="), ("I-Twilio-Idempotency-Token", "t"))
    assert (await shim.post(body, headers=headers)).status == 400
    await asyncio.wait_for(shim.service.quarantine_changed.wait(), 30)
    (kept,) = shim.service.quarantined.values()
    assert (kept.body, kept.channel_config_id, kept.integrator) == (body, "C1", "twilio")
    assert not kept.is_accepted
    assert {reason.field for reason in kept.reasons} == {"To", "MessageType"}
    names = {header.name.lower(): header.value for header in kept.headers}
    assert "authorization" not in names
    assert names["x-twilio-signature"] == "abc="
    assert kept.receive_time.seconds


async def test_what_the_service_rejects_at_once_is_quarantined_as_refused(shim: RunningShim) -> None:
    violation = FieldViolation(field="sender", description="is odd")
    shim.service.outcomes["SM1"] = IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=[violation])
    assert (await shim.post()).status == 400
    await asyncio.wait_for(shim.service.quarantine_changed.wait(), 30)
    (kept,) = shim.service.quarantined.values()
    assert [reason.field for reason in kept.reasons] == ["From"]
    assert not kept.is_accepted


async def test_an_invalid_request_goes_through_the_journal_when_the_service_is_away(shim: RunningShim) -> None:
    shim.service.quarantine_failure = shim.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
    assert (await shim.post({"From": "x"})).status == 400
    await shim.events.wait_for("journalling")
    shim.service.quarantine_failure = shim.service.ingest_failure = None
    await asyncio.wait_for(shim.service.quarantine_changed.wait(), 30)
    await shim.events.wait_for("journal_empty")
    assert len(shim.service.quarantined) == 1
    assert await shim.metric("mo_quarantine_requests_total", result="journalled") == 1


@pytest.mark.parametrize(("body", "bound"), [(b"x", 1_000), (b"x" * 250_000, 33)], ids=["many", "large"])
async def test_refused_requests_are_bounded_and_what_is_dropped_is_counted(
    tmp_path: Path, service: FakeService, body: bytes, bound: int
) -> None:
    host = Host(tmp_path / "journal", service)
    journal = host.open_journal()
    quarantine = Quarantine(host.link, journal, metrics=QuarantineMetrics(host.registry))
    for _ in range(bound + 3):
        quarantine.keep(RefusedRequest("twilio", "C1", (), body, 1, ()))
    assert host.registry.get_sample_value("mo_quarantine_requests_total", {"result": "dropped"}) == 3
    quarantine.drain()
    await journal.close()
    await host.hand_over()
    assert len(service.quarantined) == bound
    await host.close()


async def test_a_disabled_channel_is_not_quarantined(shim: RunningShim) -> None:
    shim.service.add(make_replica("C2", state=CHANNEL_STATE_DISABLED))
    assert (await shim.post(b"", path=PATH[:-1] + "2")).status == 403
    assert await shim.metric("mo_quarantine_requests_total", result="kept") == 0
    assert shim.service.quarantined == {}
