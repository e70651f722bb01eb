"""Who guesses passwords: how often, at what cost, and at whose expense."""

import asyncio
import itertools
import socket
from typing import Any

import pytest
from argon2.low_level import hash_secret_raw

from shim.connection_limits import ConnectionLimits
from shim.guesses import GuessLimit
from shim.verification_limits import VerificationLimits
from tests.shim.caller import FORM, PATH, Caller, Response, basic, encode_request
from tests.shim.fake_service import PASSWORD, make_replica
from tests.shim.running import OpenShim, RunningShim
from tests.shim.traffic import traffic

FEW: dict[str, Any] = {
    "verification": VerificationLimits(guesses_per_channel=3, guesses_per_source=5),
    "connections": ConnectionLimits(delay_seconds=0.0),
}
OTHER = PATH[:-1] + "2"
UNKNOWN = PATH + "0"
numbers = itertools.count()


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def take_all(limit: GuessLimit, key: str, *, at_most: int = 100) -> int:
    for taken in range(at_most):
        if limit.is_reached(key):
            return taken
        limit.take(key)
    return at_most


def test_the_guesses_of_a_minute_may_come_at_once_and_come_back_one_by_one() -> None:
    clock = Clock()
    limit = GuessLimit(30, clock)
    assert take_all(limit, "C1") == 30
    clock.now += 2
    assert take_all(limit, "C1") == 1
    clock.now += 60
    assert take_all(limit, "C1") == 30
    clock.now += 3_600
    assert take_all(limit, "C1") == 30


def test_each_key_has_guesses_of_its_own_and_gets_back_what_was_none() -> None:
    limit = GuessLimit(3, Clock())
    assert (take_all(limit, "C1"), take_all(limit, "C2")) == (3, 3)
    limit.give_back("C1")
    assert (take_all(limit, "C1"), take_all(limit, "C2")) == (1, 0)


def test_of_too_many_keys_the_one_that_guessed_longest_ago_is_forgotten() -> None:
    limit = GuessLimit(1, Clock())
    for number in range(10_000):
        limit.take(f"C{number}")
    limit.take("one more")
    assert (limit.is_reached("C0"), limit.is_reached("C1")) == (False, True)


async def guess(shim: RunningShim, path: str = PATH, **parts: Any) -> Response:
    """Send credentials that nobody sent before."""
    return await shim.post(path=path, authorization=basic(password=f"wrong {next(numbers)}"), **parts)


async def guess_often(shim: RunningShim, times: int, path: str = PATH, **parts: Any) -> list[int]:
    return [(await guess(shim, path, **parts)).status for _ in range(times)]


async def test_past_the_limit_guesses_are_503_and_cost_nothing(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim:
        assert await guess_often(shim, 5) == [401, 401, 401, 503, 503]
        response = await guess(shim)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert await shim.computations() == 3
        assert await shim.metric("mo_verifications_total", result="limited") == 3
        assert await shim.answered("verification_limited") == 3


async def test_a_channel_that_does_not_exist_has_the_same_limit_and_answers(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim:
        known = [(await guess(shim, PATH)).raw for _ in range(5)]
        unknown = [(await guess(shim, UNKNOWN)).raw for _ in range(5)]
        assert known == unknown
        assert await shim.computations() == 6


async def test_who_was_verified_before_and_who_has_no_credentials_yet_do_not_notice(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim, traffic(shim.listen) as flow:
        await flow.wait_for(1)
        await asyncio.gather(*(guess(shim) for _ in range(50)))
        assert (await guess(shim)).status == 503
        assert (await shim.post(authorization=None)).status == 401
        await flow.wait_for(20)
    assert (flow.faults, set(flow.statuses)) == ({}, {204})


async def test_other_channels_are_verified_while_one_is_guessed_at(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim:
        await shim.service.put(make_replica("C2"))
        await guess_often(shim, 4)
        assert (await shim.post(path=OTHER)).status == 204


async def test_who_is_right_uses_up_no_guess(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim:
        for revision in range(2, 10):
            await shim.service.put(make_replica("C1", credential_revision=revision))
            assert (await shim.post(FORM | {"MessageSid": f"SM{revision}"})).status == 204
        assert await guess_often(shim, 4) == [401, 401, 401, 503]


async def test_who_comes_through_a_known_proxy_has_a_limit_of_its_own(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW, trusted_proxies=("127.0.0.0/8",)) as shim:
        paths = [PATH + str(number) for number in range(3)]
        guesser: dict[str, Any] = {"headers": (("X-Forwarded-For", "198.51.100.1, 203.0.113.5"),)}
        statuses = [status for path in paths for status in await guess_often(shim, 2, path, **guesser)]
        assert statuses == [401, 401, 401, 401, 401, 503]
        assert (await shim.post(**guesser)).status == 503
        customer: dict[str, Any] = {"headers": (("X-Forwarded-For", "203.0.113.5, 198.51.100.1"),)}
        assert (await shim.post(**customer)).status == 204
        assert (await shim.post(**guesser)).status == 204  # verified by now


async def test_without_a_known_proxy_nobody_is_believed_about_an_address(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW) as shim:
        paths = [PATH + str(number) for number in range(3)]
        headers = (("X-Forwarded-For", "203.0.113.5"),)
        statuses = [status for path in paths for status in await guess_often(shim, 2, path, headers=headers)]
        assert statuses == [401] * 6


async def test_who_is_past_a_limit_waits_for_the_answer_and_holds_no_body(open_shim_with: OpenShim) -> None:
    async with open_shim_with(**FEW | {"connections": ConnectionLimits(delay_seconds=1_000)}) as shim:
        await guess_often(shim, 3)
        async with Caller(shim.listen) as guesser:
            waiting = asyncio.create_task(guesser.post(authorization=basic(password="one more")))
            while not await shim.metric("mo_verifications_total", result="limited"):
                continue
            assert await shim.metric("mo_webhook_body_bytes") == 0
            assert (await shim.post(FORM | {"MessageSid": "SM2"}, authorization=None)).status == 401
            assert not waiting.done()
            waiting.cancel()


@pytest.mark.parametrize("proxies", [(), ("127.0.0.0/8",)], ids=["unknown", "known"])
async def test_who_guesses_and_is_gone_at_once_harms_nobody(open_shim_with: OpenShim, proxies: tuple[str, ...]) -> None:
    async with open_shim_with(**FEW, trusted_proxies=proxies) as shim:
        host, _, port = shim.listen.rpartition(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as guesser:  # request and end arrive together
                guesser.sendall(encode_request(authorization=basic(password=f"wrong {next(numbers)}")))
        assert (await guess(shim, UNKNOWN, headers=(("X-Forwarded-For", "203.0.113.5"),))).status == 401
        assert not shim.events.count("request_failed")


async def test_a_channel_that_does_not_exist_costs_what_one_that_exists_does(
    shim: RunningShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []

    def compute(password: bytes, salt: bytes, *parameters: Any) -> bytes:
        costs.append((len(salt), *parameters))
        return hash_secret_raw(password, salt, *parameters)

    monkeypatch.setattr("shim.authorization.hash_secret_raw", compute)
    assert await guess_often(shim, 1, PATH) + await guess_often(shim, 1, UNKNOWN) == [401, 401]
    known, unknown = costs
    assert known == unknown


async def test_a_wrong_password_and_an_unknown_channel_cannot_be_told_apart(shim: RunningShim) -> None:
    before, answers = await shim.computations(), []
    for path, authorization in [(PATH, basic(password="wrong")), (UNKNOWN, basic()), (PATH, basic(user="nobody"))]:
        answers.append((await shim.post(path=path, authorization=authorization)).raw)
        after = await shim.computations()
        assert after - before == 1
        before = after
    assert len(set(answers)) == 1
    assert PASSWORD.encode() not in answers[0]
