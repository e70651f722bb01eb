"""Hostile callers, byte by byte: each gets the correct answer or a closed connection, and nobody else notices."""

import asyncio

import pytest

from tests.shim.caller import Caller
from tests.shim.hostile_cases import CASES, FRAMING, Case
from tests.shim.running import RunningShim
from tests.shim.traffic import traffic


async def play(listen: str, case: Case) -> None:
    """Send a case and see that exactly what it expects comes back."""
    async with Caller(listen) as caller:
        caller.send(case.sent)
        try:
            for status in case.statuses:
                response = await caller.read(method=case.sent.split(b" ")[0].decode("latin-1"))
                assert response.status == status
                assert response.headers["Cache-Control"] == "no-store"
                assert not {"Server", "Set-Cookie"} & {*response.headers}
            if case.closes:
                assert await caller.is_closed()
                return
        except ConnectionResetError:  # the answer may be lost with what of the request was never read
            assert case.closes
            return
        assert (await caller.post()).status == 204


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_hostile_request_is_answered_correctly_or_hung_up_on(shim: RunningShim, case: Case) -> None:
    async with asyncio.timeout(50):
        await play(shim.listen, case)
    assert await shim.metric("mo_webhook_body_bytes") == 0
    assert not shim.events.count("request_failed")


async def test_legitimate_traffic_goes_on_among_hostile_requests(shim: RunningShim) -> None:
    async with traffic(shim.listen) as flow:
        await flow.wait_for(20)
        for _ in range(3):
            await asyncio.gather(*(play(shim.listen, case) for case in CASES.values()))
        await flow.wait_for(20)
    assert (flow.faults, set(flow.statuses)) == ({}, {204})
    accepted = {message.message_sid for message in shim.service.messages}
    assert flow.accepted <= accepted


async def test_a_hostile_request_in_pieces_is_the_same(shim: RunningShim) -> None:
    for name in ("both lengths", "a chunk longer than said", "escapes that are none", "HTTP/1.0"):
        case = CASES[name]
        async with Caller(shim.listen) as caller:
            for octet in case.sent[:400]:
                caller.send(bytes([octet]))
                await caller.writer.drain()
            caller.send(case.sent[400:])
            assert (await caller.read()).status == case.statuses[0], name


async def test_a_smuggled_request_is_never_answered(shim: RunningShim) -> None:
    before = await shim.answered("not_found")
    for case in FRAMING.values():
        await play(shim.listen, case)
    assert await shim.answered("not_found") == before
    assert not shim.service.messages
