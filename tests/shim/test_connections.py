"""The public port's connections: how much is read, how long is waited, and when one is closed."""

import asyncio
import contextlib
import gc

import pytest

from shim.connection import Connection
from shim.connection_limits import ConnectionLimits
from shim.request_head import MAX_BODY_BYTES, MAX_DISCARDED_BYTES
from tests.shim.caller import FORM, Caller, encode_request
from tests.shim.running import OpenShim, RunningShim

TOO_LARGE = b"Body=" + b"x" * MAX_BODY_BYTES
WAY_TOO_LARGE = b"Body=" + b"x" * MAX_DISCARDED_BYTES


async def test_a_closed_connection_is_freed_without_the_garbage_collector(shim: RunningShim) -> None:
    gc.collect()
    gc.disable()
    try:
        async with Caller(shim.listen) as caller:
            assert (await caller.post()).status == 204
        async with Caller(shim.listen) as caller:
            caller.send(encode_request(b"")[:50])
            assert await shim.metric("mo_webhook_connections") == 1
        async with asyncio.timeout(30):
            while await shim.metric("mo_webhook_connections"):
                pass
        assert not [each for each in gc.get_objects() if isinstance(each, Connection)]
    finally:
        gc.enable()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
async def test_the_largest_body_is_accepted(shim: RunningShim, is_chunked: bool) -> None:
    form = "&".join(f"{name}={value}" for name, value in FORM.items()) + "&Body="
    body = form + "x" * (MAX_BODY_BYTES - len(form))
    assert (await shim.post(body, is_chunked=is_chunked)).status == 204
    assert len(shim.service.messages[0].body) == MAX_BODY_BYTES - len(form)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
async def test_a_body_too_large_is_read_then_answered_then_the_connection_closes(
    shim: RunningShim, is_chunked: bool
) -> None:
    async with Caller(shim.listen) as caller:
        response = await caller.post(TOO_LARGE, is_chunked=is_chunked)
        assert (response.status, response.headers["Connection"]) == (413, "close")
        assert await caller.is_closed()


async def test_a_body_that_is_announced_far_too_large_is_refused_unread(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        head, _, _ = encode_request(WAY_TOO_LARGE).partition(b"\r\n\r\n")
        caller.send(head + b"\r\n\r\n")
        assert (await caller.read()).status == 413
        assert await caller.is_closed()


async def test_a_body_of_absurd_length_is_refused(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        caller.send(encode_request(b"").replace(b"Content-Length: 0", b"Content-Length: " + b"9" * 5_000))
        assert (await caller.read()).status == 413
        assert await caller.is_closed()


async def test_a_chunked_body_that_grows_far_too_large_is_cut_off(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        caller.send(encode_request(WAY_TOO_LARGE, is_chunked=True)[:-5])
        assert (await caller.read()).status == 413
        assert await caller.is_closed()


async def test_a_request_without_a_path_for_us_is_bounded_too(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        caller.send(encode_request(WAY_TOO_LARGE, path="/", is_chunked=True)[:-5])
        assert (await caller.read()).status == 404
        assert await caller.is_closed()


@pytest.mark.parametrize(
    ("version", "connection", "announced", "closes"),
    [
        ("HTTP/1.1", None, None, False),
        ("HTTP/1.1", "close", "close", True),
        ("HTTP/1.0", None, "close", True),
        ("HTTP/1.0", "keep-alive", "keep-alive", False),
    ],
)
async def test_the_connection_is_kept_as_the_caller_wishes(
    shim: RunningShim, version: str, connection: str | None, announced: str | None, closes: bool
) -> None:
    headers = (("Connection", connection),) if connection else ()
    async with Caller(shim.listen) as caller:
        response = await caller.post(version=version, headers=headers)
        assert (response.status, response.headers.get("Connection")) == (204, announced)
        if closes:
            assert await caller.is_closed()
        else:
            assert (await caller.post(version=version, headers=headers)).status == 204


async def test_requests_that_arrive_together_are_answered_in_order(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        caller.send(encode_request(authorization=None) + encode_request() + encode_request(path="/"))
        assert [(await caller.read()).status for _ in range(3)] == [401, 204, 404]


async def test_a_form_may_arrive_in_pieces_and_ask_first(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        head, _, body = encode_request(headers=(("Expect", "100-continue"),)).partition(b"\r\n\r\n")
        caller.send(head + b"\r\n\r\n")
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        for octet in body:
            caller.send(bytes([octet]))
            await caller.writer.drain()
        assert (await caller.read()).status == 204


async def test_who_asks_first_behind_another_request_is_told_in_its_turn(shim: RunningShim) -> None:
    head, _, body = encode_request(headers=(("Expect", "100-continue"),)).partition(b"\r\n\r\n")
    async with Caller(shim.listen) as caller:
        caller.send(encode_request() + head + b"\r\n\r\n")
        assert (await caller.read()).status == 204
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        caller.send(body)
        assert (await caller.read()).status == 204


async def test_a_fault_of_ours_while_a_head_is_read_is_a_500_and_a_line_in_the_log(
    shim: RunningShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("shim.exchange.read_head", fail)
        async with Caller(shim.listen) as caller:
            assert (await caller.post()).status == 500
            assert await caller.is_closed()
    assert shim.events.count("request_failed") == 1
    assert (await shim.post()).status == 204


async def test_a_caller_who_hangs_up_harms_nobody(shim: RunningShim) -> None:
    shim.service.may_answer.clear()
    async with Caller(shim.listen) as leaver:
        leaver.send(encode_request())
        await shim.service.arrived.wait()
    async with Caller(shim.listen) as stayer:
        stayer.send(encode_request(FORM | {"MessageSid": "SM2"}))
        shim.service.may_answer.set()
        assert (await stayer.read()).status == 204
    assert [message.message_sid for message in shim.service.messages] == ["SM1", "SM2"]


async def test_malformed_http_is_refused(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        caller.send(b"nonsense\r\n\r\n")
        assert (await caller.reader.readline()).startswith(b"HTTP/1.1 400 ")
    async with Caller(shim.listen) as caller:
        caller.send(encode_request(headers=(("X", "x" * 20_000),)))
        assert (await caller.reader.readline()).startswith(b"HTTP/1.1 431 ")


async def test_who_is_too_slow_is_hung_up_on(open_shim_with: OpenShim) -> None:
    limits = ConnectionLimits(head_seconds=0.01, body_seconds=0.01)
    async with open_shim_with(connections=limits) as shim:
        async with Caller(shim.listen) as idle, Caller(shim.listen) as slow:
            slow.send(encode_request()[:-1])
            assert await idle.is_closed()
            with contextlib.suppress(ConnectionError):  # when it was hung up on before it began
                assert await slow.is_closed()
        assert await shim.metric("mo_webhook_timeouts_total") == 2
