"""The rules of leases and duplicates, against whatever sequence of operations hypothesis thinks of."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.models import AckStatus, AckToken, ClaimedDelivery, Settlement, SettlementKind
from service.store.sqlite import SqliteStore
from tests.service.builders import ManualClock, a_message

T = TypeVar("T")
Lane = tuple[str, str]
"""A destination and a sender."""

DESTINATIONS = ("bot", "default")
SENDERS = ("whatsapp:+1", "whatsapp:+2")
LEASE_SECONDS = 60.0
RECENT = st.integers(0, 4)
"""Which claim: 0 is the last one."""
MICROSECONDS = 1_000_000


@dataclass
class Expected:
    """What a lane must look like."""

    waiting: deque[str] = field(default_factory=deque)
    """Unsettled messages, oldest first; the head alone may be out."""
    token: AckToken | None = None
    """Of the claim that is out, or whose lease has run out unnoticed."""
    due_at: int = 0
    """From when on the head may be claimed."""
    attempts: int = 0

    def forget_head(self, now: int) -> None:
        self.waiting.popleft()
        self.token, self.due_at, self.attempts = None, now, 0


class FeedMachine(RuleBasedStateMachine):
    """A store beside a model of it that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._clock = ManualClock()
        self._lanes = {(name, sender): Expected() for name in DESTINATIONS for sender in SENDERS}
        self._sequences: dict[str, int] = {}
        self._acknowledged: set[tuple[str, str]] = set()
        self._issued: dict[tuple[str, AckToken], Lane] = {}
        self._open()

    def teardown(self) -> None:
        """Take everything that is left, so that nothing can be stuck; then close."""
        self._take_all()
        self._run(self._store.close())
        self._runner.close()
        self._folder.cleanup()

    @rule(
        numbers=st.lists(st.integers(0, 30), min_size=1, max_size=6),
        destinations=st.sampled_from([("default",), ("bot",), DESTINATIONS]),
    )
    def record(self, numbers: list[int], destinations: tuple[str, ...]) -> None:
        """A MessageSid belongs to one sender; a known one changes nothing, whatever it says."""
        intake = [
            a_message(f"SM{number}", sender=_sender_of(number), destinations=destinations, payload=b"SM%d" % number)
            for number in numbers
        ]
        for routed, recorded in zip(intake, self._run(self._store.record(intake)), strict=True):
            sid, sender = routed.message.message_sid, routed.message.sender
            assert recorded.is_duplicate is (sid in self._sequences)
            assert recorded.sequence == self._sequences.setdefault(sid, recorded.sequence)
            if not recorded.is_duplicate:
                assert recorded.sequence == max(self._sequences.values())
                for name in destinations:
                    self._append(self._lanes[name, sender], sid)

    @rule(destination=st.sampled_from(DESTINATIONS), limit=st.integers(1, 4))
    def claim(self, destination: str, limit: int) -> None:
        self._claim(destination, limit)

    @precondition(lambda self: self._issued)
    @rule(recent=RECENT)
    def acknowledge(self, recent: int) -> None:
        self._acknowledge(self._pick(recent))

    @precondition(lambda self: self._issued)
    @rule(recent=RECENT, seconds=st.sampled_from([0.0, 1.0, 600.0]))
    def give_back(self, recent: int, seconds: float) -> None:
        token = self._pick(recent)
        _, expected = self._find(token)
        if self._settle(token, SettlementKind.NACK, seconds):
            expected.token = None
            expected.due_at = self._clock.now + round(seconds * MICROSECONDS)

    @precondition(lambda self: self._issued)
    @rule(recent=RECENT, seconds=st.sampled_from([1.0, 600.0]))
    def extend(self, recent: int, seconds: float) -> None:
        token = self._pick(recent)
        _, expected = self._find(token)
        if self._settle(token, SettlementKind.EXTEND, seconds):
            expected.due_at = self._clock.now + round(seconds * MICROSECONDS)

    @precondition(lambda self: self._issued)
    @rule(recent=RECENT)
    def settle_in_the_wrong_destination(self, recent: int) -> None:
        """An ack id of one destination is none of another; nor is one that was never given out."""
        destination, token = self._pick(recent)
        other = next(name for name in DESTINATIONS if name != destination)
        assert self._ask(other, token, SettlementKind.ACK) is AckStatus.UNKNOWN
        assert self._ask(destination, token._replace(claim=10**6), SettlementKind.ACK) is AckStatus.UNKNOWN
        assert self._ask(destination, token._replace(lane=10**6), SettlementKind.ACK) is AckStatus.UNKNOWN

    @rule(seconds=st.sampled_from([0.001, 59.0, LEASE_SECONDS, 700.0]))
    def let_time_pass(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        self._run(self._store.close())
        self._open()

    @invariant()
    def the_backlog_is_what_is_not_acknowledged(self) -> None:
        backlogs = {each.name: each.backlog for each in self._run(self._store.list_destinations())}
        for name in DESTINATIONS:
            assert backlogs.get(name, 0) == sum(len(self._lanes[name, sender].waiting) for sender in SENDERS)

    def _claim(self, destination: str, limit: int) -> list[ClaimedDelivery]:
        """Claim, and check that exactly what may come has come."""
        now = self._clock.now
        claimable = {sender for sender in SENDERS if self._is_claimable((destination, sender))}
        claimed = self._run(
            self._store.claim(destination, limit=limit, max_bytes=10**9, lease_seconds=LEASE_SECONDS)
        ).deliveries
        assert len(claimed) == min(limit, len(claimable))
        for delivery in claimed:
            sid = delivery.payload.decode()
            lane = destination, _sender_of(int(sid[2:]))
            expected = self._lanes[lane]
            assert lane[1] in claimable  # nobody else has one of this conversation, nor comes it twice here
            claimable.remove(lane[1])
            assert (destination, sid) not in self._acknowledged
            assert sid == expected.waiting[0]
            assert delivery.sequence == self._sequences[sid]
            assert (destination, delivery.token) not in self._issued
            expected.attempts += 1
            assert delivery.attempt == expected.attempts
            expected.token, expected.due_at = delivery.token, now + round(LEASE_SECONDS * MICROSECONDS)
            assert delivery.deadline_at == expected.due_at
            self._issued[destination, delivery.token] = lane
        return list(claimed)

    def _acknowledge(self, token: tuple[str, AckToken]) -> None:
        lane, expected = self._find(token)
        if self._settle(token, SettlementKind.ACK):
            self._acknowledged.add((lane[0], expected.waiting[0]))
            expected.forget_head(self._clock.now)

    def _settle(self, token: tuple[str, AckToken], kind: SettlementKind, seconds: float = 0.0) -> bool:
        """Settle, and check that it took effect exactly if this claim is the one that is out."""
        _, expected = self._find(token)
        is_current = expected.token == token[1]
        status = self._ask(*token, kind, seconds)
        assert status is (AckStatus.OK if is_current else AckStatus.STALE)
        return is_current

    def _ask(self, destination: str, token: AckToken, kind: SettlementKind, seconds: float = 0.0) -> AckStatus:
        (status,) = self._run(self._store.settle(destination, [Settlement(token, kind, seconds)]))
        return status

    def _take_all(self) -> None:
        """Every message that isn't acknowledged can be claimed in the end, in the order of its conversation."""
        for name in DESTINATIONS:
            while any(self._lanes[name, sender].waiting for sender in SENDERS):
                self._clock.advance(700)
                for delivery in self._claim(name, len(SENDERS)):
                    self._acknowledge((name, delivery.token))
        sequences = list(self._sequences.values())
        assert len(sequences) == len(set(sequences))

    def _is_claimable(self, lane: Lane) -> bool:
        expected = self._lanes[lane]
        return bool(expected.waiting) and expected.due_at <= self._clock.now

    def _pick(self, recent: int) -> tuple[str, AckToken]:
        issued = list(self._issued)
        return issued[max(0, len(issued) - 1 - recent)]

    def _find(self, token: tuple[str, AckToken]) -> tuple[Lane, Expected]:
        lane = self._issued[token]
        return lane, self._lanes[lane]

    def _append(self, lane: Expected, sid: str) -> None:
        if not lane.waiting:
            lane.due_at = self._clock.now
        lane.waiting.append(sid)

    def _open(self) -> None:
        async def open_store() -> SqliteStore:
            return SqliteStore.open(Path(self._folder.name) / "mo.db", clock=self._clock)

        self._store = self._run(open_store())

    def _run(self, operation: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(operation)


def _sender_of(number: int) -> str:
    return SENDERS[number % len(SENDERS)]


FeedMachine.TestCase.settings = settings(stateful_step_count=30)
test_feed_rules = FeedMachine.TestCase
