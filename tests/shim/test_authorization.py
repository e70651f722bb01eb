"""Who is let in, what it costs, and that a refusal tells nothing."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aicc.mo.v1.channel_directory_pb2 import PasswordHash as PasswordHashProto
from prometheus_client import CollectorRegistry

from shim.authorization import Verifier
from shim.channel import Channel, PasswordHash
from shim.credentials import Credentials, parse_basic
from shim.errors import OverloadError
from shim.metrics import VerificationMetrics
from shim.verification_limits import VerificationLimits
from tests.shim.caller import PATH, Caller, basic
from tests.shim.fake_service import PASSWORD, USER, FakeService, hash_password, make_replica
from tests.shim.running import OpenShim, RunningShim

NOW = 1_000.0
CHANNEL = Channel(
    channel_config_id="C1",
    provider="twilio",
    is_enabled=True,
    webhook_user=USER,
    password_hashes=(PasswordHash(hash_password(PASSWORD)),),
    credential_revision=1,
    infer_message_type=False,
)
ROTATED = replace(
    CHANNEL,
    password_hashes=(PasswordHash(hash_password("new")), PasswordHash(hash_password("old"), expires_at=NOW + 60)),
    credential_revision=2,
)


def credentials(user: str = USER, password: str = PASSWORD) -> Credentials:
    parsed = parse_basic([basic(user, password)])
    assert parsed is not None
    return parsed


class Bench:
    """A verifier whose clock and counts are at hand."""

    def __init__(self, limits: VerificationLimits | None = None) -> None:
        self.now = NOW
        self.registry = CollectorRegistry()
        self.used: list[tuple[str, str]] = []
        self.verifier = Verifier(
            limits=limits or VerificationLimits(),
            metrics=VerificationMetrics(self.registry),
            clock=lambda: self.now,
            monotonic_clock=lambda: self.now,
            note_use=lambda channel, password_id: self.used.append((channel, password_id)),
        )

    @property
    def computations(self) -> float | None:
        return self.registry.get_sample_value("mo_password_computations_total")

    async def verify(self, channel: Channel | None, user: str = USER, password: str = PASSWORD) -> bool:
        return await self.verifier.verify("C1", channel, credentials(user, password))

    def remembers(self, channel: Channel, password: str = PASSWORD) -> bool:
        return self.verifier.is_remembered(channel, credentials(password=password))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.verifier.close()


@pytest.mark.parametrize(
    ("channel", "user", "password", "expected"),
    [
        (CHANNEL, USER, PASSWORD, True),
        (CHANNEL, USER, "wrong", False),
        (CHANNEL, USER, "", False),
        (CHANNEL, "wrong", PASSWORD, False),
        (CHANNEL, "", PASSWORD, False),
        (None, USER, PASSWORD, False),
        (None, "", "", False),
        (replace(CHANNEL, password_hashes=()), USER, PASSWORD, False),
        (ROTATED, USER, "new", True),
        (ROTATED, USER, "old", True),
        (ROTATED, USER, "wrong", False),
    ],
)
async def test_each_path_costs_exactly_one_computation(
    bench: Bench, channel: Channel | None, user: str, password: str, expected: bool
) -> None:
    assert await bench.verify(channel, user, password) is expected
    assert bench.computations == 1


@pytest.mark.parametrize(("user", "password"), [("u", "a:b:c"), ("ü ser", "pässwörd 🔑"), ("u", "\\$%&+ ")])
async def test_credentials_that_somebody_else_chose_are_fine(bench: Bench, user: str, password: str) -> None:
    channel = replace(CHANNEL, webhook_user=user, password_hashes=(PasswordHash(hash_password(password)),))
    assert await bench.verify(channel, user, password)


async def test_what_was_verified_is_remembered_until_the_credentials_change(bench: Bench) -> None:
    assert not bench.remembers(CHANNEL)
    await bench.verify(CHANNEL)
    assert bench.remembers(replace(CHANNEL, is_enabled=False))
    assert not bench.remembers(CHANNEL, "wrong")
    assert not bench.remembers(replace(CHANNEL, credential_revision=2))
    assert not bench.remembers(replace(CHANNEL, channel_config_id="C2"))


async def test_what_is_wrong_is_not_remembered(bench: Bench) -> None:
    await bench.verify(CHANNEL, password="wrong")
    assert not bench.remembers(CHANNEL, "wrong")


async def test_an_old_password_ends_at_its_time_although_it_is_remembered(bench: Bench) -> None:
    assert await bench.verify(ROTATED, password="old")
    assert await bench.verify(ROTATED, password="new")
    assert bench.remembers(ROTATED, "old")
    bench.now = NOW + 60
    assert not bench.remembers(ROTATED, "old")
    assert bench.remembers(ROTATED, "new")
    assert not await bench.verify(ROTATED, password="old")


async def test_a_password_that_stayed_the_same_does_not_end(bench: Bench) -> None:
    same = (PasswordHash(hash_password("same")), PasswordHash(hash_password("same"), expires_at=NOW + 60))
    channel = replace(ROTATED, password_hashes=same)
    await bench.verify(channel, password="same")
    bench.now = NOW + 60
    assert bench.remembers(channel, "same")


async def test_the_same_question_at_the_same_time_is_computed_once(bench: Bench) -> None:
    assert await asyncio.gather(*(bench.verify(CHANNEL) for _ in range(20))) == [True] * 20
    assert bench.computations == 1


async def test_different_questions_are_computed_apart(bench: Bench) -> None:
    asked = [bench.verify(CHANNEL), bench.verify(CHANNEL, password="wrong"), bench.verify(ROTATED), bench.verify(None)]
    assert await asyncio.gather(*asked) == [True, False, False, False]
    assert bench.computations == 4


async def test_past_the_bound_nobody_is_told_that_he_is_wrong() -> None:
    bench = Bench(VerificationLimits(threads=1, max_waiting=1))
    results = await asyncio.gather(
        *(bench.verify(CHANNEL, password=str(number)) for number in range(4)), return_exceptions=True
    )
    assert [type(result) for result in results] == [bool, bool, OverloadError, OverloadError]
    bench.verifier.close()


async def test_a_caller_who_leaves_takes_the_answer_from_nobody(bench: Bench) -> None:
    leaver = asyncio.create_task(bench.verify(CHANNEL))
    stayer = asyncio.create_task(bench.verify(CHANNEL))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer


async def test_of_too_many_channels_the_one_used_longest_ago_is_forgotten() -> None:
    bench = Bench(VerificationLimits(max_remembered_channels=2))
    channels = [replace(CHANNEL, channel_config_id=name) for name in ("C1", "C2", "C3")]
    for channel in channels[:2]:
        await bench.verify(channel)
    assert bench.remembers(channels[0])
    await bench.verify(channels[2])
    assert [bench.remembers(channel) for channel in channels] == [True, False, True]
    bench.verifier.close()


async def test_only_the_first_message_of_a_channel_costs_a_computation(shim: RunningShim) -> None:
    async with Caller(shim.listen) as caller:
        assert [(await caller.post()).status for _ in range(3)] == [204] * 3
    assert await shim.computations() == 1
    assert await shim.metric("mo_verifications_total", result="remembered") == 2


async def test_many_first_messages_at_once_share_a_computation(shim: RunningShim) -> None:
    assert {r.status for r in await asyncio.gather(*(shim.post() for _ in range(30)))} == {204}
    assert await shim.computations() == 1


@pytest.mark.parametrize(
    "refused", [{"authorization": basic(password="no")}, {"path": PATH + "0"}, {"path": PATH + "x"}]
)
async def test_a_refusal_costs_one_computation_and_one_question(shim: RunningShim, refused: dict[str, str]) -> None:
    await shim.service.put(make_replica("C1x", provider="other"))
    assert (await shim.post(**refused)).status == 401
    assert await shim.computations() == 1
    assert len(shim.service.questions) == 1


async def test_overload_of_the_verification_is_503_and_never_401(open_shim_with: OpenShim) -> None:
    limits = VerificationLimits(threads=1, max_waiting=0)
    async with open_shim_with(verification=limits) as shim:
        asked = [shim.post(authorization=basic(password=str(number))) for number in range(5)]
        responses = await asyncio.gather(*asked)
        assert sorted(response.status for response in responses) == [401, 503, 503, 503, 503]
        assert await shim.answered("verification_overloaded") == 4


async def test_a_new_password_is_good_before_the_directory_told(shim: RunningShim) -> None:
    shim.service.add(make_replica(passwords=["new"], credential_revision=2))
    assert (await shim.post(authorization=basic(password="new"))).status == 204
    assert await shim.computations() == 2
    assert (await shim.post()).status == 401


async def test_a_new_channel_is_good_before_the_directory_told(shim: RunningShim) -> None:
    shim.service.add(make_replica("C2"))
    assert (await shim.post(path=PATH[:-1] + "2")).status == 204


async def test_a_channel_that_changed_otherwise_is_not_computed_again(shim: RunningShim) -> None:
    shim.service.add(make_replica(infer_message_type=True))
    assert (await shim.post(authorization=basic(password="wrong"))).status == 401
    assert await shim.computations() == 1


async def test_the_service_is_asked_now_and_then_about_a_channel(
    shim: RunningShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.link.QUESTION_SECONDS", 0.2)
    monkeypatch.setattr("shim.questions._SECONDS_BETWEEN", 1_000.0)
    shim.service.may_answer_questions.clear()
    asked = [asyncio.create_task(shim.post(authorization=basic(password=str(number)))) for number in range(4)]
    responses = await asyncio.gather(*asked)
    shim.service.may_answer_questions.set()
    assert {response.status for response in responses} == {401}
    assert (await shim.post(authorization=basic(password="5"))).status == 401
    assert shim.service.questions == ["C1"]
    assert (await shim.post(path=PATH[:-1] + "2")).status == 401
    assert shim.service.questions == ["C1", "C2"]


async def test_who_doubts_at_the_same_time_waits_for_the_same_answer(shim: RunningShim) -> None:
    shim.service.may_answer_questions.clear()
    shim.service.add(make_replica(passwords=["new"], credential_revision=2))
    asked = [asyncio.create_task(shim.post(authorization=basic(password="new"))) for _ in range(5)]
    await shim.service.asked.wait()
    shim.service.may_answer_questions.set()
    assert {response.status for response in await asyncio.gather(*asked)} == {204}
    assert shim.service.questions == ["C1"]


async def test_without_the_service_the_copy_decides_soon(shim: RunningShim) -> None:
    await shim.service.stop()
    await shim.events.wait_for("directory_lost")
    assert (await shim.post(authorization=basic(password="wrong"))).status == 401
    assert await shim.metric("mo_replica_questions_total", result="unanswered") == 1


async def test_the_service_is_asked_before_the_directory_is_followed_too(
    open_shim_with: OpenShim, service: FakeService
) -> None:
    async with open_shim_with():
        pass
    service.pages_before_break = 0  # the directory can't be followed
    service.add(make_replica("C2"))
    async with open_shim_with(is_ready=False) as shim:
        assert (await shim.post(path=PATH[:-1] + "2")).status == 204
        assert (await shim.readiness())[1]["reasons"][0]["reason"] == "directory_not_followed"


async def test_during_a_rotation_both_passwords_are_good(shim: RunningShim) -> None:
    old = PasswordHashProto(phc=hash_password("old"))
    old.expire_time.seconds = 4_000_000_000
    await shim.service.put(make_replica(passwords=["new", old], credential_revision=2))
    assert (await shim.post(authorization=basic(password="new"))).status == 204
    assert (await shim.post(authorization=basic(password="old"))).status == 204


async def test_a_password_that_ended_is_refused(shim: RunningShim) -> None:
    old = PasswordHashProto(phc=hash_password("old"))
    old.expire_time.seconds = 1_000_000_000
    await shim.service.put(make_replica(passwords=["new", old], credential_revision=2))
    assert (await shim.post(authorization=basic(password="old"))).status == 401
