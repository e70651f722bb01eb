"""The rules of the feed (design 6), against whatever sequence of operations hypothesis thinks of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from service.models import AckToken, DeadLetterSelection, HoldReason, MessageKey, SettlementKind
from tests.postgres_server import Databases
from tests.service_properties.knowledge import SETTINGS
from tests.service_properties.side_by_side import CHANNEL, DESTINATIONS, SENDERS, SideBySide

destinations = st.sampled_from(DESTINATIONS)
routes = st.sampled_from([("bot",), ("bot",), ("shop",), ("bot", "agents"), ("shop", "bot")])
senders = st.sampled_from(SENDERS)
numbers = st.integers(0, 30)
recent = st.integers(0, 3)
"""Which claim: the first ones are out, if so many are; then come older ones."""


class FeedMachine(RuleBasedStateMachine):
    """What producers, consumers and operators do, in any order."""

    def __init__(self, databases: Databases | None = None) -> None:
        super().__init__()
        self._both = SideBySide(databases)

    def teardown(self) -> None:
        try:
            self._both.deliver_all()
        finally:
            self._both.close()

    @rule(which=st.lists(numbers, min_size=1, max_size=5), names=routes, affinity=st.sampled_from([0, 0, 100]))
    def record(self, which: list[int], names: tuple[str, ...], affinity: int) -> None:
        self._both.record(which, names, None, affinity)

    @rule(which=st.lists(numbers, min_size=1, max_size=3))
    def hold(self, which: list[int]) -> None:
        self._both.record(which, (), HoldReason.UNROUTED, 0)

    @precondition(lambda self: self._both.model.held)
    @rule(names=routes, most=st.integers(1, 3))
    def release(self, names: tuple[str, ...], most: int) -> None:
        self._both.release(names, sorted(self._both.model.held)[:most])

    @rule(destination=destinations, limit=st.sampled_from([1, 2, 100]), lease_seconds=st.sampled_from([10.0, None]))
    def claim(self, destination: str, limit: int, lease_seconds: float | None) -> None:
        self._both.claim(destination, limit, lease_seconds)

    @rule()
    def claim_everywhere(self) -> None:
        for destination in DESTINATIONS:
            self._both.claim(destination, 100)

    @precondition(lambda self: self._both.model.issued)
    @rule(recent=recent)
    def acknowledge(self, recent: int) -> None:
        self._both.acknowledge(*self._pick(recent))

    @precondition(lambda self: self._both.model.issued)
    @rule(
        recent=recent,
        kind=st.sampled_from([SettlementKind.NACK, SettlementKind.BREAK]),
        seconds=st.sampled_from([None, 0.0, 30.0]),
    )
    def fail(self, recent: int, kind: SettlementKind, seconds: float | None) -> None:
        self._both.fail(*self._pick(recent), kind, seconds)

    @precondition(lambda self: self._both.model.issued)
    @rule(recent=recent)
    def give_back(self, recent: int) -> None:
        self._both.give_back(*self._pick(recent))

    @precondition(lambda self: self._both.model.issued)
    @rule(recent=recent, seconds=st.sampled_from([1.0, 300.0]))
    def extend(self, recent: int, seconds: float) -> None:
        self._both.extend(*self._pick(recent), seconds)

    @rule(sender=senders, destination=destinations, recent=st.none() | recent, seconds=st.sampled_from([50.0, 5000.0]))
    def assign(self, sender: str, destination: str, recent: int | None, seconds: float) -> None:
        has_ack = recent is not None and self._both.model.issued
        self._both.assign(sender, destination, self._pick(recent or 0) if has_ack else None, seconds)

    @precondition(lambda self: self._both.model.out)
    @rule(recent=recent, destination=destinations)
    def hand_over(self, recent: int, destination: str) -> None:
        """Assign a conversation of which something is out, or was."""
        sid = self._both.model.issued[self._pick(recent)].sid
        self._both.assign(self._both.model.senders.get(sid, SENDERS[0]), destination, None, 5000.0)

    @precondition(lambda self: self._both.model.dead)
    @rule(destination=st.none() | destinations, limit=st.sampled_from([1, 100]))
    def redrive(self, destination: str | None, limit: int) -> None:
        self._both.redrive(DeadLetterSelection(destination=destination), limit)

    @precondition(lambda self: self._both.model.dead)
    @rule()
    def discard(self) -> None:
        oldest = min(self._both.model.dead)
        self._both.discard(DeadLetterSelection(keys=(MessageKey(CHANNEL, oldest.sid),)))

    @rule(destination=destinations)
    def replay(self, destination: str) -> None:
        self._both.replay(destination)
        self._both.advance_replays()

    @rule(destination=destinations, is_ordered=st.booleans(), max_attempts=st.sampled_from([2, 3]))
    def configure(self, destination: str, is_ordered: bool, max_attempts: int) -> None:
        self._both.configure(destination, replace(SETTINGS, is_ordered=is_ordered, max_attempts=max_attempts))

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 60.0, 700.0]))
    def let_time_pass(self, seconds: float) -> None:
        self._both.clock.advance(seconds)
        self._both.compare()

    @rule(sender=senders, what=st.sampled_from(["end", "erase", "reopen", "settle"]))
    def do_what_is_seldom_done(self, sender: str, what: str) -> None:
        if what == "end":
            self._both.end_assignment(sender)
        elif what == "erase":
            self._both.erase(sender)
        elif what == "reopen":
            self._both.reopen()
        elif self._both.model.issued:
            self._both.settle_what_is_none(*self._pick(0))

    def _pick(self, recent: int) -> tuple[str, AckToken]:
        model = self._both.model
        out = [(key.destination, lease.token) for key, lease in model.out.items()][:3]
        claims = [*out, *(claim for claim in reversed(model.issued) if claim not in out)]
        return claims[min(recent, len(claims) - 1)]


pytestmark = pytest.mark.timeout(1800)  # a slow machine may need long

STEPS = settings(stateful_step_count=50)


def test_the_feeds_rules_hold_on_sqlite() -> None:
    run_state_machine_as_test(FeedMachine, settings=STEPS)


@pytest.mark.full
def test_the_feeds_rules_hold_on_postgres(postgres: Databases) -> None:
    class OnPostgres(FeedMachine):
        def __init__(self) -> None:
            super().__init__(postgres)

    run_state_machine_as_test(OnPostgres, settings=STEPS)
