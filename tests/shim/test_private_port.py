"""The private port, and what the process tells its operator."""

import json
import logging

import pytest

from shim.health import Health, Readiness, Reason, find_worst
from shim.logs import JsonFormatter
from tests.shim.caller import basic, post
from tests.shim.running import RunningShim


async def test_the_probes_answer_without_a_sign_in(shim: RunningShim) -> None:
    assert (await shim.get("/healthz")).status == 200
    assert await shim.readiness() == (200, {"status": "ready", "reasons": []})
    assert (await shim.get("/else")).status == 404


async def test_the_private_port_does_not_say_what_it_runs_on(shim: RunningShim) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/else"):
        assert "Server" not in (await shim.get(path)).headers


async def test_webhooks_are_not_served_there(shim: RunningShim) -> None:
    assert (await post(shim.admin_listen)).status == 404


async def test_metrics_tell_about_messages_and_never_who_wrote(shim: RunningShim) -> None:
    await shim.post()
    await shim.post(authorization=basic(password="wrong"))
    metrics = (await shim.get("/metrics")).body.decode()
    assert await shim.answered("accepted") == 1
    assert await shim.metric("mo_batch_messages_count") == 1
    assert await shim.metric("mo_replica_connected") == 1
    assert await shim.metric("mo_webhook_message_seconds_count") == 2
    for secret in ('"C1"', "447700900123", "SM1", "mo-user"):
        assert secret not in metrics


def test_the_worst_reason_decides() -> None:
    health = Health()
    assert find_worst(health.find_reasons()) is Readiness.NOT_READY
    health.is_serving = True
    assert find_worst(health.find_reasons()) is Readiness.READY
    slow = Reason(Readiness.DEGRADED, "slow", "It is slow.", {"seconds": 3})
    health.add(lambda: [slow])
    assert find_worst(health.find_reasons()) is Readiness.DEGRADED
    assert slow.to_json() == {"reason": "slow", "detail": "It is slow.", "seconds": 3}
    health.is_serving = False
    assert find_worst(health.find_reasons()) is Readiness.NOT_READY


@pytest.mark.parametrize("name", ["asyncio", "tornado.general", "grpc._cython"])
@pytest.mark.parametrize("rest", ["\nsecret", "(b'secret')", " <Handle secret>"])
def test_what_a_library_puts_into_its_message_is_not_logged(name: str, rest: str) -> None:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, f"failed: %s{rest}", ("secret",), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["logger"], line["template"]) == ("library", name, "failed: %s")
    assert "secret" not in str(line)


def test_an_event_has_a_constant_name_and_facts_as_fields() -> None:
    record = logging.LogRecord("shim.x", logging.WARNING, __file__, 1, "something", None, None)
    record.count = 3
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["level"], line["count"]) == ("something", "warning", 3)
    assert line["time"].endswith("Z")
    assert "T" in line["time"]
