"""Hashes that are made anew because the service wants stronger ones."""

import asyncio

import argon2
import pytest
from aicc.mo.v1.channel_directory_pb2 import PasswordHash, PasswordHashing, UpgradePasswordHashRequest

from shim.passwords import Hashing
from shim.verification_limits import VerificationLimits
from tests.shim.caller import basic
from tests.shim.fake_service import HASHER, PASSWORD, FakeService, hash_password, make_replica
from tests.shim.running import OpenShim
from tests.shim.test_authorization import Bench

WANTED = PasswordHashing(memory_kib=128, passes=3)


async def next_upgrade(service: FakeService) -> UpgradePasswordHashRequest:
    async with asyncio.timeout(50):
        return await service.upgrades.get()


async def test_the_next_caller_of_a_weaker_hash_has_it_made_anew(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.wanted_hashing = WANTED
    async with open_shim_with() as shim:
        assert (await shim.post()).status == 204
        upgrade = await next_upgrade(service)

    parameters = argon2.extract_parameters(upgrade.phc)
    assert (upgrade.channel_config_id, upgrade.credential_revision) == ("C1", 1)
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (128, 3, 1)
    assert argon2.PasswordHasher().verify(upgrade.phc, PASSWORD)
    assert upgrade.phc.split("$")[4] != hash_password(PASSWORD).split("$")[4]  # a salt of its own


async def test_a_caller_that_is_remembered_already_has_it_made_anew_too(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    async with open_shim_with() as shim:
        assert (await shim.post()).status == 204
        service.wanted_hashing = WANTED
        await service.put(make_replica("C2"))  # the wish comes with whatever the service says next
        while service.upgrades.empty():
            assert (await shim.post()).status == 204
        computations = await shim.computations()

        assert computations == 1


async def test_the_request_does_not_wait_and_the_new_hash_is_asked_for_once(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.wanted_hashing = WANTED
    async with open_shim_with() as shim:
        assert (await shim.post()).status == 204
        await next_upgrade(service)
        while not await shim.metric("mo_password_upgrades_total", result="upgraded"):
            pass
        for _ in range(5):
            assert (await shim.post()).status == 204

    assert service.upgrades.empty()


@pytest.mark.parametrize(
    "wanted", [None, PasswordHashing(memory_kib=HASHER.memory_cost, passes=HASHER.time_cost), PasswordHashing()]
)
async def test_a_hash_that_is_as_strong_as_wanted_stays(
    service: FakeService, open_shim_with: OpenShim, wanted: PasswordHashing | None
) -> None:
    service.wanted_hashing = wanted
    async with open_shim_with() as shim:
        for _ in range(3):
            assert (await shim.post()).status == 204

    assert service.upgrades.empty()


async def test_while_an_older_password_is_valid_nothing_is_made_anew(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.wanted_hashing = WANTED
    old = PasswordHash(phc=hash_password("old"))
    old.expire_time.FromSeconds(4_000_000_000)
    service.add(make_replica(passwords=["new", old], credential_revision=2))
    async with open_shim_with() as shim:
        for password in ("new", "old"):
            assert (await shim.post(authorization=basic(password=password))).status == 204

    assert service.upgrades.empty()


async def test_wrong_credentials_make_nothing_anew(service: FakeService, open_shim_with: OpenShim) -> None:
    service.wanted_hashing = WANTED
    async with open_shim_with() as shim:
        assert (await shim.post(authorization=basic(password="wrong"))).status == 401

    assert service.upgrades.empty()


async def test_callers_who_wait_to_be_verified_come_first() -> None:
    bench = Bench(VerificationLimits(threads=1))
    verifying = asyncio.create_task(bench.verify(None))
    await asyncio.sleep(0)

    assert await bench.verifier.make_hash("a password", Hashing(64, 1)) is None
    await verifying
    made = await bench.verifier.make_hash("a password", Hashing(64, 1))

    assert made is not None
    assert argon2.PasswordHasher().verify(made, "a password")
    bench.verifier.close()
