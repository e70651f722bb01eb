"""Claim and acknowledgement in the store alone: what they cost with ever more waiting, in many conversations or one.

Of many conversations 100 are claimed at once, of one conversation one message. CPU time of the process, its writer
thread included, in rounds that alternate between the stores; what is taken out is put back between the claims.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from service.models import Settlement, SettlementKind
from service.store.sqlite import SqliteStore
from tests.bench.mo_messages import DESTINATION, a_routed_text
from tests.bench.scenario import Figure, Figures, Options, spread

_BACKLOGS = (1_000, 100_000, 1_000_000)
_EACH = 5
"""Messages of each of the many conversations."""
_LENGTHS = (10, 100_000)
_ROUNDS = 25
_CLAIMS = 10
"""In a round."""
_RECORDED_AT_ONCE = 2_000
_LARGEST_BYTES = 2**40
_LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class _Kind:
    """How much waits, in conversations of which length, and how many are claimed at once."""

    backlog: int
    each: int
    batch: int


def run(options: Options) -> Figures:
    """Compare the backlogs of many conversations, then the lengths of one."""
    return asyncio.run(_run(options))


async def _run(options: Options) -> Figures:
    many = [_Kind(backlog, _EACH, batch=100) for backlog in _BACKLOGS]
    one = [_Kind(length, length, batch=1) for length in _LENGTHS]
    return {
        **_describe("many conversations", await _compare(options, many)),
        **_describe("one conversation", await _compare(options, one)),
    }


async def _compare(options: Options, kinds: Sequence[_Kind]) -> Mapping[int, Sequence[float]]:
    """Return CPU microseconds a message of every round, by backlog."""
    queues = [await _Queue.fill(options, kind) for kind in kinds]
    found: dict[int, list[float]] = {kind.backlog: [] for kind in kinds}
    try:
        for number in range(-2, _ROUNDS):  # two to warm up
            for kind, queue in zip(kinds, queues, strict=True):
                cost = await queue.measure()
                found[kind.backlog] += [cost] if number >= 0 else []
    finally:
        for queue in queues:
            await queue.close()
    return found


class _Queue:
    """A store with a backlog."""

    def __init__(self, store: SqliteStore, kind: _Kind) -> None:
        self._store = store
        self._kind = kind
        self._numbers = itertools.count()

    @classmethod
    async def fill(cls, options: Options, kind: _Kind) -> _Queue:
        queue = cls(SqliteStore.open(_path_of(options.folder, kind)), kind)
        for start in range(0, kind.backlog, _RECORDED_AT_ONCE):
            if start % 100_000 == 0:
                options.tell(f"{start:,} of {kind.backlog:,} messages stored")
            await queue._record(min(_RECORDED_AT_ONCE, kind.backlog - start))
        return queue

    async def measure(self) -> float:
        """Return CPU microseconds a message of a round."""
        batch, used, taken = self._kind.batch, 0.0, 0
        for _ in range(_CLAIMS if batch > 1 else 10 * _CLAIMS):
            started = time.process_time()
            claimed = await self._store.claim(
                DESTINATION, limit=batch, max_bytes=_LARGEST_BYTES, lease_seconds=_LEASE_SECONDS
            )
            acks = [Settlement(delivery.token, SettlementKind.ACK) for delivery in claimed.deliveries]
            await self._store.settle(DESTINATION, acks)
            used += time.process_time() - started
            taken += len(acks)
            await self._record(len(acks))
        assert taken == batch * (_CLAIMS if batch > 1 else 10 * _CLAIMS), "the backlog didn't last"
        return used / taken * 1e6

    async def close(self) -> None:
        await self._store.close()

    async def _record(self, count: int) -> None:
        """As many conversations as make up the backlog, each in turn."""
        conversations = self._kind.backlog // self._kind.each
        numbers = itertools.islice(self._numbers, count)
        await self._store.record([a_routed_text(number, conversations=conversations) for number in numbers])


def _path_of(folder: Path, kind: _Kind) -> Path:
    return folder / f"{kind.backlog}-{kind.each}.db"


def _describe(title: str, found: Mapping[int, Sequence[float]]) -> Figures:
    first, *others = found
    figures: dict[str, Figure] = {
        f"{title}: us a message, {backlog:,} waiting": spread(costs, 1) for backlog, costs in found.items()
    }
    for backlog in others:
        figures[f"{title}: {backlog:,} to {first:,} waiting"] = round(median(found[backlog]) / median(found[first]), 2)
    return figures
