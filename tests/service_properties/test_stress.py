"""Writers, consumers and an operator at once, on SQLite, whose writer thread batches them, and on two replicas.

For a longer run: MO_STRESS_SECONDS=60 pytest tests/service_properties/test_stress.py
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from service.models import (
    ClaimedDelivery,
    Conversation,
    DeadLetterSelection,
    Decision,
    DeliveryKey,
    DestinationSettings,
    HeldSelection,
    HoldReason,
    MessageFilter,
    MessageState,
    Release,
    Replay,
    ReplaySelection,
    RoutedMessage,
    Settlement,
    SettlementKind,
)
from service.store.contract import Store
from tests.postgres_server import Databases
from tests.service.builders import ManualClock, a_message
from tests.service_properties.ledger import LEASE_SECONDS, Ledger
from tests.service_properties.opened_store import open_store

SECONDS = float(os.environ.get("MO_STRESS_SECONDS", "4"))

DESTINATIONS = ("agents", "bot", "shop")
CALM = [f"whatsapp:+{number}" for number in range(10, 16)]
"""Conversations that no operator touches, and that go by one route: their order is strict."""
BUSY = [f"whatsapp:+{number}" for number in range(20, 26)]
SETTINGS = DestinationSettings(min_backoff_seconds=0.5, max_backoff_seconds=5.0, max_attempts=4)
EVERYTHING = DeadLetterSelection()
MUCH = 10**9
MOST_WAITING = 2_000
MOST_UNANSWERED = 5

RARE = ("expired", "redriven", "moved", "released", "replayed", "ack stale", "break ok", "return ok", "extend ok")
"""What must have happened, else it was too calm to prove anything. On a busy machine that takes longer."""
PATIENCE = 10

FATES = [
    *(SettlementKind.ACK for _ in range(16)),
    *(SettlementKind.NACK for _ in range(2)),
    *(SettlementKind.EXTEND for _ in range(2)),
    SettlementKind.BREAK,
    SettlementKind.RETURN,
    None,  # nobody answers for long
]


class Stress:
    """One store, and everybody who uses it, over any of its replicas."""

    def __init__(self, replicas: Sequence[Store], clock: ManualClock) -> None:
        self.ledger = Ledger()
        self._replicas = replicas
        self._clock = clock
        self._random = random.Random(1)
        self._numbers = count()
        self._began_at = time.monotonic()

    async def run(self) -> None:
        for name in DESTINATIONS:
            await self._store.update_destination(name, lambda _: SETTINGS)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(self._write())
            for name in DESTINATIONS * 2:
                group.create_task(self._consume(name))
            group.create_task(self._operate())

    async def deliver_all(self) -> None:
        """Take and acknowledge what is left."""
        is_over = False
        while not is_over:
            self._clock.advance(60)
            is_replaying = await self._store.advance_replays() is not None
            redriven = await self._store.redrive(EVERYTHING, after=0, limit=1000)
            await self._release()
            taken = 0
            for name in DESTINATIONS:
                deliveries = await self._claim(name, 1000)
                await self._settle(name, [Settlement(each.token, SettlementKind.ACK) for each in deliveries])
                taken += len(deliveries)
            is_over = not (is_replaying or redriven.settled or taken)

    @property
    def _store(self) -> Store:
        return self._random.choice(self._replicas)

    def _is_over(self) -> bool:
        passed = time.monotonic() - self._began_at
        return passed > SECONDS and (all(self.ledger.counts[name] for name in RARE) or passed > SECONDS * PATIENCE)

    async def _write(self) -> None:
        while not self._is_over():
            if len(self.ledger.recorded) - len(self.ledger.acknowledged) // 2 < MOST_WAITING:
                await self._store.record([self._message() for _ in range(self._random.randint(1, 8))])
            await asyncio.sleep(0)

    def _message(self) -> RoutedMessage:
        # A few repeat one that was there before.
        number = next(self._numbers) if self._random.random() < 0.95 else self._random.randint(0, 9)
        sender = (CALM + BUSY)[number % (len(CALM) + len(BUSY))]
        sid = f"SM{number}"
        self.ledger.recorded[sid] = sender
        is_held = sender in BUSY and number % 17 == 0
        return a_message(
            sid,
            sender=sender,
            payload=sid.encode(),
            destinations=("bot", "shop") if sender in CALM else tuple(self._random.sample(DESTINATIONS, 2)),
            hold_reason=HoldReason.UNROUTED if is_held else None,
            affinity_seconds=5 if sender in BUSY and number % 5 == 0 else 0,
            received_at=self._clock.now,
        )

    async def _consume(self, destination: str) -> None:
        unanswered: list[Settlement] = []
        while not self._is_over():
            deliveries = await self._claim(destination, self._random.randint(1, 20))
            fates = [(each.token, self._random.choice(FATES)) for each in deliveries]
            settlements = [Settlement(token, fate, self._seconds(fate)) for token, fate in fates if fate]
            unanswered += [Settlement(token, SettlementKind.ACK) for token, fate in fates if fate is None]
            await self._settle(destination, settlements)
            if len(unanswered) > MOST_UNANSWERED:
                await self._settle(destination, unanswered)  # most of them too late
                unanswered.clear()
            self._clock.advance(self._random.choice([0.0001, 0.01, 0.2]))
            await asyncio.sleep(0)

    def _seconds(self, kind: SettlementKind) -> float | None:
        if kind is SettlementKind.EXTEND:
            return LEASE_SECONDS
        return self._random.choice([None, 0.0, 1.0])

    async def _operate(self) -> None:
        for turn in count():
            if self._is_over():
                return
            conversation = Conversation("C1", self._random.choice(BUSY))
            target = self._random.choice([None, *DESTINATIONS])
            acks = [DeliveryKey(destination, each.token) for (destination, _), each in self.ledger.out.items()]
            ack = self._random.choice(acks) if acks and turn % 3 == 0 else None
            await self._assign(conversation, target, ack)
            if turn % 5 == 0:
                page = await self._store.redrive(EVERYTHING, after=0, limit=self._random.randint(1, 50))
                self.ledger.counts["redriven"] += page.settled
                await self._release()
            if turn % 20 == 0:
                selection = ReplaySelection(channel_config_id="C1", sender=conversation.sender)
                replay = Replay(f"r{turn}", self._random.choice(DESTINATIONS), selection, 50, "anna")
                await self._store.start_replay(replay)
            await self._store.advance_replays()

    async def _assign(self, conversation: Conversation, target: str | None, ack: DeliveryKey | None) -> None:
        settlements = [Settlement(ack.token, SettlementKind.ACK)] if ack else []
        if ack:
            self.ledger.note_asked(ack.destination, settlements)
        outcome = await self._store.assign(conversation, target, ttl_seconds=30, ack=ack)
        if ack and outcome.ack_status is not None:
            self.ledger.note_settled(ack.destination, settlements[0], outcome.ack_status)
        self.ledger.counts["moved"] += outcome.moved

    async def _release(self) -> None:
        held = await self._store.find_held(HeldSelection(), after=0, limit=100)
        releases = [Release(message.sequence, Decision(("bot",))) for message in held]
        self.ledger.counts["released"] += len(await self._store.release(releases)) if releases else 0

    async def _claim(self, destination: str, limit: int) -> Sequence[ClaimedDelivery]:
        claimed = await self._store.claim(destination, limit=limit, max_bytes=MUCH, lease_seconds=LEASE_SECONDS)
        for delivery in claimed.deliveries:
            self.ledger.note_claim(destination, delivery, self.ledger.recorded[delivery.payload.decode()])
        return claimed.deliveries

    async def _settle(self, destination: str, settlements: Sequence[Settlement]) -> None:
        self.ledger.note_asked(destination, settlements)
        statuses = await self._store.settle(destination, settlements) if settlements else []
        for settlement, status in zip(settlements, statuses, strict=True):
            self.ledger.note_settled(destination, settlement, status)


@pytest.mark.timeout(60 + 2 * PATIENCE * SECONDS)
async def test_nothing_is_lost_doubled_or_out_of_order_when_all_do_everything_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await open_store(tmp_path / "mo.db", clock)
    try:
        await _stress([store], clock)
    finally:
        await store.close()


@pytest.mark.full
@pytest.mark.timeout(60 + 2 * PATIENCE * SECONDS)
async def test_nothing_is_lost_doubled_or_out_of_order_over_two_replicas_on_postgres(postgres: Databases) -> None:
    clock = ManualClock()
    async with postgres.database() as dsn, AsyncExitStack() as stack:
        replicas = [await open_store(dsn, clock) for _ in range(2)]
        for replica in replicas:
            stack.push_async_callback(replica.close)
        await _stress(replicas, clock)


async def _stress(replicas: Sequence[Store], clock: ManualClock) -> None:
    stress = Stress(replicas, clock)
    await stress.run()
    await stress.deliver_all()
    await _check(replicas[0], stress.ledger)


async def _check(store: Store, ledger: Ledger) -> None:
    for status in await store.list_destinations():
        assert (status.backlog, status.leased, status.dead_letters) == (0, 0, 0)
    stored = 0
    before: int | None = None
    while True:
        page = await store.list_messages(MessageFilter(), before=before, limit=1000)
        stored += len(page.messages)
        assert all(message.state is MessageState.DELIVERED for message in page.messages)
        before = page.next_before
        if before is None:
            break
    assert stored == len(ledger.recorded)
    for (_, sender), sequences in ledger.first.items():
        assert sender not in CALM or sequences == sorted(sequences)
    assert all(ledger.counts[name] for name in RARE), f"too calm to prove anything: {ledger.counts}"
