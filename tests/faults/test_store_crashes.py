"""What the store answered is there after a crash at any point, nothing is there twice, and the file opens."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from service.models import AckStatus, Claimed, MessageFilter, Settlement, SettlementKind
from service.store.sqlite import SqliteStore
from tests.faults.crash_vfs import Crash, CrashPoint
from tests.faults.crashing import run_until_it_crashes
from tests.service.builders import a_message

T = TypeVar("T")

CHILD = "tests.faults.store_child"
EVERYTHING = MessageFilter()


async def load_all(path: Path) -> list[str]:
    """Open the store as a service does, and return the MessageSids in the order in which they are stored."""
    store = SqliteStore.open(path)
    page = await store.list_messages(EVERYTHING, before=None, limit=5_000)
    await store.close()
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    sids = [sid for (sid,) in connection.execute("SELECT message_sid FROM message ORDER BY sequence")]
    in_lanes = connection.execute("SELECT count(*) FROM delivery").get
    connection.close()
    assert len(sids) == len(set(sids)) == in_lanes == len(page.messages)
    return sids


def expected(answered: list[int]) -> set[str]:
    return {f"SM{number:06d}-{part}" for number in answered for part in range(3)}


@pytest.mark.parametrize("is_power_loss", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.full), 120])
@pytest.mark.parametrize("point", CrashPoint, ids=lambda point: point.value)
async def test_the_store_keeps_what_it_answered(
    tmp_path: Path, point: CrashPoint, count: int, is_power_loss: bool
) -> None:
    answered = run_until_it_crashes(CHILD, tmp_path / "mo.db", Crash("mo.db-wal", point, count, is_power_loss))

    stored = await load_all(tmp_path / "mo.db")

    assert expected(answered) <= set(stored)
    # At most the group that was under way is there beside it.
    assert set(stored) <= expected([*answered, len(answered)])
    again = run_until_it_crashes(
        CHILD, tmp_path / "mo.db", Crash("mo.db-wal", CrashPoint.AFTER_SYNC, 4), first=len(answered)
    )
    assert expected(answered) | expected(again) <= set(await load_all(tmp_path / "mo.db"))


@pytest.mark.parametrize("is_power_loss", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("point", CrashPoint, ids=lambda point: point.value)
async def test_the_store_survives_a_crash_in_a_checkpoint(
    tmp_path: Path, point: CrashPoint, is_power_loss: bool
) -> None:
    answered = run_until_it_crashes(CHILD, tmp_path / "mo.db", Crash("mo.db", point, 1, is_power_loss))

    assert answered
    assert expected(answered) <= set(await load_all(tmp_path / "mo.db"))


async def test_what_a_lost_claim_was_given_settles_nothing_of_the_next(tmp_path: Path) -> None:
    path, before = tmp_path / "mo.db", tmp_path / "before.db"
    await _work(path, lambda store: store.record([a_message("SM1")]))
    shutil.copy(path, before)
    (lost,) = (await _work(path, _claim)).deliveries
    shutil.copy(before, path)  # claims aren't synced: a power failure takes them back

    (claimed,) = (await _work(path, _claim)).deliveries
    outdated = Settlement(lost.token, SettlementKind.ACK)

    assert await _work(path, lambda store: store.settle("default", [outdated])) == [AckStatus.STALE]
    assert claimed.sequence == lost.sequence


def _claim(store: SqliteStore) -> Awaitable[Claimed]:
    return store.claim("default", limit=1, max_bytes=2**20, lease_seconds=60)


async def _work(path: Path, operation: Callable[[SqliteStore], Awaitable[T]]) -> T:
    store = SqliteStore.open(path)
    try:
        return await operation(store)
    finally:
        await store.close()
