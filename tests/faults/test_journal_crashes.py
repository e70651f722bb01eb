"""What the journal took is handed over after a crash at any point, in its order, and its file opens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.crash_vfs import Crash, CrashPoint
from tests.faults.crashing import run_until_it_crashes
from tests.shim.fake_service import FakeService
from tests.shim.journals import Host

CHILD = "tests.faults.journal_child"


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    service = FakeService()
    await service.start()
    yield service
    await service.stop()


async def hand_over(folder: Path, service: FakeService) -> list[str]:
    """Hand over what a crashed worker left, as the next shim does; return all that the service has, in order."""
    host = Host(folder, service)
    try:
        return await host.hand_over()
    finally:
        await host.close()


def expected(answered: list[int]) -> list[str]:
    return [f"SM{number:06d}-{part}" for number in answered for part in range(3)]


@pytest.mark.parametrize("is_power_loss", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("occurrence", [pytest.param(1, marks=pytest.mark.full), 120])
@pytest.mark.parametrize("point", CrashPoint, ids=lambda point: point.value)
async def test_the_journal_keeps_what_it_answered(
    tmp_path: Path, service: FakeService, point: CrashPoint, occurrence: int, is_power_loss: bool
) -> None:
    folder = tmp_path / "journal"
    answered = run_until_it_crashes(CHILD, folder, Crash("0.db-wal", point, occurrence, is_power_loss))
    if is_power_loss:
        folder.joinpath("marks").unlink()  # they are never synced
    again = run_until_it_crashes(
        CHILD, folder, Crash("0.db-wal", CrashPoint.BEFORE_SYNC, 4, is_power_loss), first=len(answered) + 1
    )
    assert again

    handed_over = await hand_over(folder, service)

    assert handed_over == sorted(handed_over)
    assert len(handed_over) == len(set(handed_over))
    assert {*expected(answered), *expected(again)} <= {*handed_over}
    # At most the group that was under way is there beside it.
    assert {*handed_over} <= {*expected([*answered, len(answered)]), *expected([*again, again[-1] + 1])}


@pytest.mark.parametrize("is_power_loss", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("point", CrashPoint, ids=lambda point: point.value)
async def test_the_journal_survives_a_crash_in_a_checkpoint(
    tmp_path: Path, service: FakeService, point: CrashPoint, is_power_loss: bool
) -> None:
    folder = tmp_path / "journal"
    answered = run_until_it_crashes(CHILD, folder, Crash("0.db", point, 1, is_power_loss))

    handed_over = await hand_over(folder, service)

    assert answered
    assert {*expected(answered)} <= {*handed_over}
    assert handed_over == sorted(handed_over)
