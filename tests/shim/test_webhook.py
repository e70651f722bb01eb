"""The public port, byte by byte: every row of the table of answers, in its order of precedence."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from aicc.mo.v1.channel_directory_pb2 import CHANNEL_STATE_DISABLED, CHANNEL_STATE_PAUSED
from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_DUPLICATE,
    INGEST_OUTCOME_ERASED,
    INGEST_OUTCOME_HELD,
    INGEST_OUTCOME_REJECTED,
    IngestOutcome,
    IngestResult,
)
from aicc.mo.v1.message_pb2 import FieldViolation
from google.protobuf.json_format import MessageToDict

from shim.request_head import MAX_BODY_BYTES
from shim.translation.twilio import to_form
from tests.shim.caller import FORM, PATH, Caller, Response, basic
from tests.shim.fake_service import make_replica
from tests.shim.running import OpenShim, RunningShim

FIXTURES = json.loads((Path(__file__).parent.parent / "fixtures" / "twilio-payloads.json").read_text())
TOO_LARGE = b"Body=" + b"x" * MAX_BODY_BYTES
UNAUTHORIZED_HEADER = 'Basic realm="aicc-mo", charset="UTF-8"'


def assert_is_fit_for_twilio(response: Response) -> None:
    """No body that it would send to the customer, nothing that it would keep, no word on who we are."""
    content_type = response.headers.get("Content-Type")
    if response.body:
        assert content_type in {"application/problem+json", "text/xml"}
    if response.status == 204:
        assert response.raw == b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n"
    assert response.headers["Cache-Control"] == "no-store"
    assert not {name.lower() for name in response.headers} & {"set-cookie", "server", "transfer-encoding"}
    assert response.status == 503 or "Retry-After" not in response.headers


REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "an unknown integrator": (404, {"path": "/social/on/whatsapp/other/message/C1"}),
    "an unknown path": (404, {"path": "/"}),
    "a path that goes on": (404, {"path": PATH + "/"}),
    "a channel id with other characters": (404, {"path": PATH + "%20"}),
    "a channel id of 129 characters": (404, {"path": PATH[:-2] + "C" * 129}),
    "an empty channel id": (404, {"path": PATH[:-2]}),
    "GET": (405, {"method": "GET"}),
    "HEAD": (405, {"method": "HEAD"}),
    "OPTIONS": (405, {"method": "OPTIONS"}),
    "PUT": (405, {"method": "PUT"}),
    "no media type": (415, {"content_type": None}),
    "another media type": (415, {"content_type": "application/json"}),
    "a media type that only begins so": (415, {"content_type": "application/x-www-form-urlencoded2"}),
    "two media types": (415, {"headers": (("Content-Type", "application/x-www-form-urlencoded"),)}),
    "a content encoding": (415, {"headers": (("Content-Encoding", "gzip"),)}),
    "no credentials": (401, {"authorization": None}),
    "no Basic credentials": (401, {"authorization": "Bearer abc"}),
    "credentials that are no base64": (401, {"authorization": "Basic !"}),
    "two sets of credentials": (401, {"headers": (("Authorization", basic()),)}),
    "another user": (401, {"authorization": basic(user="somebody")}),
    "another password": (401, {"authorization": basic(password="something")}),
    "an unknown channel": (401, {"path": PATH + "0"}),
    "a missing parameter": (400, {"body": {"From": "x"}}),
    "a form that is not UTF-8": (400, {"body": b"From=%ff"}),
    "too many parameters": (400, {"body": b"a&" * 201}),
}


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize(("status", "request_parts"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refused_request_leaves_the_connection_open(
    shim: RunningShim, status: int, request_parts: dict[str, Any], is_chunked: bool
) -> None:
    async with Caller(shim.listen) as caller:
        response = await caller.post(**request_parts, is_chunked=is_chunked)
        assert response.status == status
        assert_is_fit_for_twilio(response)
        assert (await caller.post()).status == 204
    assert len(shim.service.messages) == 1


@pytest.mark.parametrize(
    ("expected", "faults"),
    [
        (404, {"path": "/", "method": "GET", "content_type": None, "body": TOO_LARGE, "authorization": None}),
        (405, {"method": "GET", "content_type": None, "body": TOO_LARGE, "authorization": None}),
        (415, {"content_type": None, "body": TOO_LARGE, "authorization": None}),
        (413, {"body": TOO_LARGE, "authorization": None}),
        (413, {"body": TOO_LARGE, "authorization": None, "is_chunked": True}),
        (413, {"body": TOO_LARGE, "authorization": basic(password="wrong")}),
        (401, {"body": b"", "authorization": basic(password="wrong")}),
    ],
)
async def test_the_first_fault_decides(shim: RunningShim, expected: int, faults: dict[str, Any]) -> None:
    assert (await shim.post(**faults)).status == expected


async def test_the_other_refusals_say_what_would_do(shim: RunningShim) -> None:
    assert (await shim.post(method="GET")).headers["Allow"] == "POST"
    assert (await shim.post(authorization=None)).headers["WWW-Authenticate"] == UNAUTHORIZED_HEADER
    head = await shim.post(method="HEAD")
    assert (head.body, head.status) == (b"", 405)


async def test_every_401_is_the_same_byte_by_byte_and_counted_apart(shim: RunningShim) -> None:
    challenged = [await shim.post(authorization=value) for value in (None, "Basic !", "Digest x")]
    wrong = [
        await shim.post(authorization=basic(user="somebody")),
        await shim.post(authorization=basic(password="something")),
        await shim.post(path=PATH + "0"),
    ]
    assert len({response.raw for response in challenged + wrong}) == 1
    assert await shim.answered("challenge") == 3
    assert await shim.answered("bad_credentials") == 3


async def test_a_challenge_looks_nothing_up(shim: RunningShim) -> None:
    await shim.post(authorization=None)
    assert await shim.computations() == 0
    assert shim.service.questions == []


@pytest.mark.parametrize(
    "content_type",
    ["Application/X-WWW-Form-URLEncoded", "application/x-www-form-urlencoded; charset=utf-8"],
)
async def test_the_media_type_is_read_without_case_and_parameters(shim: RunningShim, content_type: str) -> None:
    assert (await shim.post(content_type=content_type)).status == 204


async def test_what_else_is_equivalent_is_accepted(shim: RunningShim) -> None:
    assert (await shim.post(path=PATH + "?a=/b?c")).status == 204
    assert (await shim.post(headers=(("Content-Encoding", "identity"),))).status == 204
    assert (await shim.post(authorization=basic().replace("Basic", "bASIC"))).status == 204


@pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture["name"] for fixture in FIXTURES])
async def test_what_twilio_sends_arrives_whole(shim: RunningShim, fixture: dict[str, Any]) -> None:
    assert (await shim.post(fixture["wire"])).status == 204
    forms = [dict(to_form(message)) for message in shim.service.messages]
    assert forms == ([] if "MessageStatus" in fixture["form"] else [fixture["form"]])


async def test_a_message_reaches_the_service_with_its_channel_and_time(shim: RunningShim) -> None:
    await shim.post()
    message = MessageToDict(shim.service.messages[0])
    assert message.pop("receiveTime")
    assert message == {
        "channelConfigId": "C1",
        "messageSid": "SM1",
        "sender": "whatsapp:+447700900123",
        "receiver": "whatsapp:+14155238886",
        "messageType": "MESSAGE_TYPE_TEXT",
        "messageTypeName": "text",
    }


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (INGEST_OUTCOME_DUPLICATE, "duplicate"),
        (INGEST_OUTCOME_HELD, "held"),
        (INGEST_OUTCOME_ERASED, "erased"),
    ],
)
async def test_what_is_stored_in_another_way_is_answered_alike(
    shim: RunningShim, outcome: IngestOutcome.ValueType, name: str
) -> None:
    shim.service.results = [IngestResult(outcome=outcome)]
    assert (await shim.post()).status == 204
    assert await shim.answered(name) == 1


async def test_a_reply_may_be_an_empty_twiml_document(open_shim_with: OpenShim) -> None:
    async with open_shim_with(reply="twiml") as shim:
        response = await shim.post()
        assert (response.status, response.headers["Content-Type"]) == (200, "text/xml")
        assert response.body.endswith(b"<Response/>")
        assert_is_fit_for_twilio(response)


@pytest.mark.parametrize(
    "form",
    [
        {"MessageStatus": "delivered", "MessageSid": "SM1"},
        {"MessageStatus": "sent", "SmsStatus": "sent", "MessageSid": "SM1"},
        FORM | {"MessageStatus": ""},
    ],
)
async def test_a_status_callback_is_counted_and_not_stored(shim: RunningShim, form: dict[str, str]) -> None:
    response = await shim.post(form)
    assert response.status == 204
    assert_is_fit_for_twilio(response)
    assert await shim.answered("status_callback") == 1
    assert shim.service.batches == []


async def test_a_message_with_a_status_of_its_own_is_no_callback(shim: RunningShim) -> None:
    assert (await shim.post(FORM | {"MessageStatus": "x", "SmsStatus": "received"})).status == 204
    assert len(shim.service.messages) == 1


async def test_the_fallback_call_is_taken_as_the_message_that_it_is(shim: RunningShim) -> None:
    form = FORM | {"ErrorCode": "11200", "ErrorUrl": "https://a.example/x"}
    assert (await shim.post(form)).status == 204
    assert [parameter.name for parameter in shim.service.messages[0].other_parameters] == ["ErrorCode", "ErrorUrl"]


async def test_an_invalid_form_is_answered_with_every_bad_field_and_no_value(shim: RunningShim) -> None:
    response = await shim.post({"From": "", "To": "x\x00secret", "MessageSid": "S" * 65})
    assert response.status == 400
    assert {error["field"] for error in response.problem["errors"]} == {"From", "To", "MessageSid", "MessageType"}
    assert response.problem["status"] == 400
    assert b"secret" not in response.body
    assert b"SSS" not in response.body


async def test_what_the_service_rejects_is_answered_with_the_names_of_the_form(shim: RunningShim) -> None:
    violations = [FieldViolation(field="sender", description="is odd"), FieldViolation(field="body", description="?")]
    shim.service.results = [IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=violations)]
    response = await shim.post()
    assert response.status == 400
    assert response.problem["errors"] == [{"field": "From", "detail": "is odd"}, {"field": "body", "detail": "?"}]


async def test_a_channel_that_the_service_never_knew_is_answered_as_an_unknown_one(shim: RunningShim) -> None:
    violations = [FieldViolation(field="channel_config_id", description="does not exist")]
    shim.service.results = [IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=violations)]
    assert (await shim.post()).raw == (await shim.post(authorization=None)).raw


async def test_a_disabled_channel_is_refused_only_to_those_who_may_know(shim: RunningShim) -> None:
    shim.service.add(make_replica("C2", state=CHANNEL_STATE_DISABLED))
    async with Caller(shim.listen) as caller:
        assert (await caller.post(path=PATH[:-1] + "2", authorization=basic(password="wrong"))).status == 401
        response = await caller.post(path=PATH[:-1] + "2")
        assert (response.status, response.problem["title"]) == (403, "Forbidden")
        assert (await caller.post(path=PATH[:-1] + "2", body=b"")).status == 403
    assert shim.service.batches == []


async def test_a_paused_channel_takes_messages(shim: RunningShim) -> None:
    await shim.service.put(make_replica("C1", state=CHANNEL_STATE_PAUSED))
    assert (await shim.post()).status == 204


@pytest.mark.parametrize(
    "name", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN"]
)
async def test_what_the_service_does_not_take_is_journalled_and_handed_over_later(shim: RunningShim, name: str) -> None:
    shim.service.ingest_failure = grpc.StatusCode[name]
    response = await shim.post()
    assert response.status == 204
    assert_is_fit_for_twilio(response)
    assert await shim.answered("journalled") == 1
    assert shim.events.count("batch_failed") == 1


async def test_readiness_tells_since_when_the_shim_is_journalling(shim: RunningShim) -> None:
    shim.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
    assert (await shim.post()).status == 204
    await shim.events.wait_for("hand_over_failed")
    status, readiness = await shim.readiness()
    (reason,) = readiness["reasons"]
    assert (status, readiness["status"], reason["reason"], reason["messages"]) == (200, "degraded", "journalling", 1)
    assert reason["since"].endswith("Z")
    assert reason["oldest"] <= reason["since"]
    assert "UNAVAILABLE" in reason["detail"]
    shim.service.ingest_failure = None
    await shim.events.wait_for("journal_empty")
    assert (await shim.post(FORM | {"MessageSid": "SM2"})).status == 204
    assert (await shim.readiness())[1] == {"status": "ready", "reasons": []}


async def test_a_full_journal_is_503_with_retry_after(open_shim_with: OpenShim) -> None:
    async with open_shim_with(max_journal_bytes=100) as shim:
        shim.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
        response = await shim.post()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert_is_fit_for_twilio(response)
        shim.service.ingest_failure = None
        assert (await shim.post()).status == 204


async def test_results_of_the_wrong_number_are_our_fault_and_the_message_is_kept(shim: RunningShim) -> None:
    shim.service.results = [IngestResult()] * 2
    assert (await shim.post()).status == 204
    assert await shim.answered("journalled") == 1


async def test_an_unknown_outcome_is_our_fault(shim: RunningShim) -> None:
    shim.service.results = [IngestResult.FromString(b"\x08\x63")]
    assert (await shim.post()).status == 503
    assert await shim.answered("service_fault") == 1


async def test_a_service_that_hangs_is_not_waited_for_long(shim: RunningShim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.link.BATCH_SECONDS", 0.2)
    shim.service.may_answer.clear()
    assert (await shim.post()).status == 204
    assert await shim.answered("journalled") == 1
    shim.service.may_answer.set()


async def test_an_exception_that_nobody_expected_is_a_500_with_a_trace_and_without_values(
    shim: RunningShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bytes) -> None:
        raise RuntimeError("a customer's text")

    monkeypatch.setattr("shim.intake.parse_form", fail)
    async with Caller(shim.listen) as caller:
        response = await caller.post()
        assert response.status == 500
        assert_is_fit_for_twilio(response)
        assert (await caller.post(authorization=None)).status == 401
    line = next(json.loads(line) for line in shim.events.lines if "request_failed" in line)
    assert line["exception"] == "RuntimeError"
    assert any("intake.py" in frame for frame in line["frames"])
    assert "a customer's text" not in "".join(shim.events.lines)
