"""Hashing of many passwords at once: it waits for cores, and gives way to everything else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from service import passwords
from service.passwords import Hasher, Hashing

WEAK = Hashing(memory_kib=64, passes=1)


async def test_a_hash_is_that_of_the_password_under_the_setting() -> None:
    hasher = Hasher(WEAK)

    first = await hasher.hash("a password")
    second = await hasher.hash("a password", like=first)
    hasher.close()

    assert passwords.is_of(first, WEAK)
    assert first == second


@pytest.mark.skipif(sys.platform != "linux", reason="only there threads have a niceness")
async def test_many_hashes_take_a_thread_for_each_core_that_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[int, int] = {}

    def hash_password(_password: str, _hashing: Hashing, *, like: str | None = None) -> str:
        used[threading.get_native_id()] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return like or ""

    monkeypatch.setattr(passwords, "hash_password", hash_password)
    hasher = Hasher(WEAK)
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    await asyncio.gather(*(hasher.hash("a password") for _ in range(200)))
    hasher.close()

    assert len(used) <= (os.cpu_count() or 1)
    assert all(niceness >= passwords.NICENESS for niceness in used.values())
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours


async def test_a_hasher_that_is_closed_leaves_what_waits() -> None:
    hasher = Hasher(WEAK)
    waiting = [asyncio.ensure_future(hasher.hash("a password")) for _ in range(500)]
    await asyncio.sleep(0)
    hasher.close()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
