"""When passwords were last used, as the service is told."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import grpc
import pytest

from shim.channel import PasswordHash
from shim.link import Link
from shim.password_uses import PasswordUses
from tests.shim.fake_service import FakeService
from tests.shim.running import OpenShim
from tests.shim.test_authorization import CHANNEL, NOW, ROTATED, Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.verifier.close()


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def link(service: FakeService) -> AsyncIterator[Link]:
    link = Link(service.listen)
    yield link
    await link.close()


def told(service: FakeService) -> list[tuple[str, str, float]]:
    uses = [use for request in service.password_uses for use in request.uses]
    return [(use.channel_config_id, use.password_id, use.use_time.ToMicroseconds() / 1e6) for use in uses]


async def test_the_last_use_of_each_password_is_told_once(service: FakeService, link: Link) -> None:
    clock = Clock()
    uses = PasswordUses(clock)
    for channel, password_id in [("C1", "new"), ("C2", "one"), ("C1", "old"), ("C1", "new")]:
        clock.now += 1
        uses.note(channel, password_id)

    await uses.report(link)
    await uses.report(link)

    assert sorted(told(service)) == [("C1", "new", NOW + 4), ("C1", "old", NOW + 3), ("C2", "one", NOW + 2)]
    assert len(service.password_uses) == 1


async def test_what_the_service_does_not_take_is_told_later(service: FakeService, link: Link) -> None:
    clock = Clock()
    uses = PasswordUses(clock)
    uses.note("C1", "a")
    uses.note("C2", "b")
    service.password_uses_failure = grpc.StatusCode.UNAVAILABLE
    await uses.report(link)
    clock.now += 5
    uses.note("C1", "a")
    service.password_uses_failure = None

    await uses.report(link)

    assert sorted(told(service)) == [("C1", "a", NOW + 5), ("C2", "b", NOW)]


async def test_many_are_told_a_thousand_at_a_time(service: FakeService, link: Link) -> None:
    uses = PasswordUses()
    for number in range(2_500):
        uses.note(f"C{number}", "a")

    await uses.report(link)

    assert [len(request.uses) for request in service.password_uses] == [1_000, 1_000, 500]


async def test_both_computed_and_remembered_credentials_are_uses(bench: Bench) -> None:
    channel = replace(
        ROTATED,
        password_hashes=tuple(replace(h, password_id=i) for h, i in zip(ROTATED.password_hashes, "no", strict=True)),
    )
    await bench.verify(channel, password="old")
    await bench.verify(channel, password="wrong")
    assert bench.remembers(channel, "old")
    await bench.verify(channel, password="new")

    assert bench.used == [("C1", "o"), ("C1", "o"), ("C1", "n")]


async def test_a_password_that_was_hashed_anew_goes_by_its_new_id(bench: Bench) -> None:
    await bench.verify(CHANNEL)
    rehashed = replace(CHANNEL, password_hashes=(PasswordHash("$another$hash", password_id="stronger"),))

    assert bench.remembers(rehashed)

    assert bench.used[-1] == ("C1", "stronger")


async def test_a_shim_that_stops_tells_what_it_knows(service: FakeService, open_shim_with: OpenShim) -> None:
    service.replicas["C1"].password_hashes[0].password_id = "a"
    async with open_shim_with() as shim:
        assert (await shim.post()).status == 204
        assert not service.password_uses

    ((channel, password_id, _),) = told(service)
    assert (channel, password_id) == ("C1", "a")
