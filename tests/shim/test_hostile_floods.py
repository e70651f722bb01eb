"""Callers who are many, slow or endless: what they take is bounded, and who has a password is served meanwhile."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

from shim.connection_limits import ConnectionLimits
from tests.shim.caller import FORM, PATH, Caller, basic, encode_request
from tests.shim.running import OpenShim, RunningShim
from tests.shim.traffic import Traffic, traffic

IMPATIENT = ConnectionLimits(head_seconds=1.0, body_seconds=1.0)
LARGE = {"Body": "x" * 200_000}
WRONG = basic(password="wrong")


async def is_hung_up_on(caller: Caller) -> bool:
    try:
        return await caller.is_closed()
    except ConnectionError:
        return True


def send_slowly(callers: list[Caller], request: bytes) -> Iterator[None]:
    """Send what is the same beginning for all; then one byte of it at each step, for ever."""
    for caller in callers:
        caller.send(request)
    while True:
        yield
        for caller in callers:
            if not caller.writer.is_closing():
                caller.send(b"x")


async def send_for_ever(connection: socket.socket, requests: bytes) -> NoReturn:
    while True:
        await asyncio.get_running_loop().sock_sendall(connection, requests)


def assert_nobody_noticed(flow: Traffic) -> None:
    assert (flow.faults, set(flow.statuses)) == ({}, {204})


async def test_500_callers_who_send_a_byte_now_and_then_are_hung_up_on(open_shim_with: OpenShim) -> None:
    async with open_shim_with(connections=IMPATIENT) as shim, contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(shim.listen)) for _ in range(500)]
        head, _, _ = encode_request().partition(b"\r\n\r\n")
        slow = [send_slowly(callers[:250], head + b"\r\nX-Slow: "), send_slowly(callers[250:], head + b"\r\n\r\n")]
        async with traffic(shim.listen) as flow:
            hung_up = asyncio.gather(*(is_hung_up_on(caller) for caller in callers))
            while not hung_up.done():
                for each in slow:
                    next(each)
                await flow.wait_for(50)
            assert await hung_up == [True] * 500
        assert_nobody_noticed(flow)
        assert await shim.metric("mo_webhook_timeouts_total") == 500
        assert await shim.metric("mo_webhook_body_bytes") == 0


async def test_who_begins_its_next_head_has_no_longer_for_it_than_for_the_first(open_shim_with: OpenShim) -> None:
    async with open_shim_with(connections=IMPATIENT) as shim, Caller(shim.listen) as idle, Caller(shim.listen) as slow:
        assert [(await caller.post()).status for caller in (idle, slow)] == [204, 204]
        slow.send(b"POST")
        assert await is_hung_up_on(slow)
        assert (await idle.post()).status == 204


async def test_who_begins_its_next_head_right_after_a_request_has_no_longer_either(open_shim_with: OpenShim) -> None:
    async with open_shim_with(connections=IMPATIENT) as shim, Caller(shim.listen) as slow:
        slow.send(encode_request() + b"POST")
        assert (await slow.read()).status == 204
        assert await is_hung_up_on(slow)


async def test_a_head_without_an_end_is_cut_off(shim: RunningShim) -> None:
    async with traffic(shim.listen) as flow, Caller(shim.listen) as endless:
        endless.send(f"POST {PATH} HTTP/1.1\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while not endless.reader.at_eof():
                endless.send(b"X-More: and more\r\n" * 100)
                await endless.writer.drain()
        assert await is_hung_up_on(endless)
        await flow.wait_for(20)
    assert_nobody_noticed(flow)


@pytest.mark.parametrize("authorization", [None, WRONG, basic()], ids=["nobody", "a stranger", "a customer"])
async def test_a_body_without_an_end_is_cut_off(shim: RunningShim, authorization: str | None) -> None:
    head, _, _ = encode_request(b"", authorization=authorization, is_chunked=True).rpartition(b"0\r\n\r\n")
    async with traffic(shim.listen) as flow, Caller(shim.listen) as endless:
        endless.send(head)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not endless.reader.at_eof():
                endless.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                await endless.writer.drain()
                sent += 0x4000
                assert sent < 64 * 2**20
        await flow.wait_for(20)
    assert_nobody_noticed(flow)
    assert await shim.answered("too_large") == 1
    assert await shim.metric("mo_webhook_body_bytes") == 0


async def test_hundreds_of_requests_at_once_on_one_connection_are_answered_in_order(shim: RunningShim) -> None:
    kinds = [(None, 401), (basic(), 204), ("Basic !", 401)]
    requests = [
        encode_request(FORM | {"MessageSid": f"SM{number}"}, authorization=authorization)
        for number in range(100)
        for authorization, _ in kinds
    ]
    async with Caller(shim.listen) as caller:
        caller.send(b"".join(requests))
        statuses = [(await caller.read()).status for _ in requests]
    assert statuses == [status for _ in range(100) for _, status in kinds]


async def test_who_never_reads_its_answers_is_hung_up_on(open_shim_with: OpenShim) -> None:
    async with open_shim_with(connections=IMPATIENT) as shim, traffic(shim.listen) as flow:
        host, _, port = shim.listen.rpartition(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.setblocking(False)
            with pytest.raises(ConnectionError):
                await send_for_ever(deaf, encode_request(authorization=None) * 100)
        await flow.wait_for(20)
    assert_nobody_noticed(flow)


async def test_strangers_bodies_leave_room_for_those_of_customers(open_shim_with: OpenShim) -> None:
    limits = ConnectionLimits(max_body_bytes=2**20)
    async with open_shim_with(connections=limits) as shim, contextlib.AsyncExitStack() as stack:
        customer = await stack.enter_async_context(Caller(shim.listen))
        assert (await customer.post()).status == 204
        strangers = [await stack.enter_async_context(Caller(shim.listen)) for _ in range(10)]
        for stranger in strangers:
            stranger.send(encode_request(FORM | LARGE, authorization=WRONG)[:-1])
        for _ in range(3):
            assert (await customer.post(FORM | LARGE)).status == 204
        assert 0 < await shim.metric("mo_webhook_body_bytes") <= 2**19
        for stranger in strangers:
            stranger.send(b"x")
        statuses = [(await stranger.read()).status for stranger in strangers]
        assert set(statuses) == {401, 503}
        assert await shim.answered("overloaded") > 0


async def test_silent_connections_make_room_when_there_are_too_many(
    open_shim_with: OpenShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.connection._CROWDED_SECONDS", 0.1)
    limits = ConnectionLimits(max_connections=10)
    async with open_shim_with(connections=limits) as shim, contextlib.AsyncExitStack() as stack:
        customer = await stack.enter_async_context(Caller(shim.listen))
        assert (await customer.post()).status == 204
        silent = [await stack.enter_async_context(Caller(shim.listen)) for _ in range(9)]
        assert (await silent[0].post(authorization=None)).status == 401
        assert (await shim.post()).status == 204
        assert [await is_hung_up_on(each) for each in silent] == [True] * 9
        assert (await customer.post()).status == 204
