"""A store and its model: each operation is done to both, and they are compared after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from service.models import (
    AckStatus,
    AckToken,
    Assignment,
    AssignmentReason,
    ClaimedDelivery,
    Conversation,
    DeadLetterSelection,
    Decision,
    DeliveryKey,
    DeliveryState,
    DestinationSettings,
    HoldReason,
    Release,
    Replay,
    ReplaySelection,
    SettlementKind,
)
from tests.postgres_server import Databases
from tests.service.builders import a_message
from tests.service_properties.knowledge import SECOND, SETTINGS, Key, Snapshot
from tests.service_properties.model import Model
from tests.service_properties.opened_store import EVERYTHING, OpenedStore

CHANNEL = "C1"
DESTINATIONS = ("agents", "bot", "shop")
SENDERS = ("whatsapp:+1", "whatsapp:+2")
MUCH = 10**9
MOST_ROUNDS = 100
MOST_CLAIMS = 20
LATER = 2**63


class SideBySide(OpenedStore):
    """One channel, a few senders and destinations, on a clock that stands still until it is moved."""

    def __init__(self, databases: Databases | None = None) -> None:
        super().__init__(databases)
        self.model = Model(dict.fromkeys(DESTINATIONS, SETTINGS))
        self._snapshot: Snapshot = {}
        self._sequences: dict[str, int] = {}
        self._assignments: dict[str, Assignment] = {}
        self._replays: set[str] = set()
        self._replayed = 0
        self._was_anybody_erased = False
        for name in DESTINATIONS:
            self.configure(name, SETTINGS)

    def record(self, numbers: Sequence[int], names: tuple[str, ...], hold: HoldReason | None, affinity: int) -> None:
        """Record messages; a number belongs to one sender, and a known one changes nothing."""
        routed = [_a_message(number, names, hold, affinity, self.clock.now + 1) for number in numbers]
        expected: dict[str, Decision] = {}
        for (message, decision), recorded in zip(routed, self.run(self.store.record(routed)), strict=True):
            sid, sender = message.message_sid, message.sender
            assert recorded.is_duplicate is (sid in self._sequences)
            assert recorded.sequence == self._sequences.setdefault(sid, recorded.sequence)
            if not recorded.is_duplicate:
                assert recorded.sequence == max(self._sequences.values())
                self.model.senders[sid] = sender
                expected[sid] = self._accept(sid, sender, decision)
        self.compare()
        for sid, decision in expected.items():
            assert self._snapshot[sid].decision == decision._replace(affinity_seconds=0)
            assert self._snapshot[sid].sequence == self._sequences[sid]
        self._check_assignments()

    def release(self, names: tuple[str, ...], sids: Collection[str]) -> None:
        releases = [Release(self._sequences[sid], Decision(names)) for sid in sids]
        assert self.run(self.store.release(releases)) == dict(each[:2] for each in releases)
        for sid in sids:
            self.model.held.discard(sid)
            for name in names:
                self.model.place(name, sid, in_front=True)
        self.compare()

    def claim(self, destination: str, limit: int, lease_seconds: float | None = None) -> Sequence[ClaimedDelivery]:
        """Claim; and again where the store asks for it, since many leases were over."""
        must_come = self.model.must_come(destination, self._snapshot, self.clock.now)
        claimed: list[ClaimedDelivery] = []
        for _ in range(MOST_CLAIMS):
            found = self.run(
                self.store.claim(destination, limit=limit - len(claimed), max_bytes=MUCH, lease_seconds=lease_seconds)
            )
            claimed += found.deliveries
            self._follow()
            self.model.check_claimed(destination, found.deliveries, self._snapshot, self.clock.now)
            self.model.check_snapshot(self._snapshot, self.clock.now)
            if len(claimed) >= limit or (found.next_due_at or LATER) > self.clock.now:
                break
        came = {self.model.senders[_sid(delivery)] for delivery in claimed if not delivery.is_replayed}
        assert len(claimed) <= limit
        assert len(claimed) == limit or came >= must_come
        return claimed

    def acknowledge(self, destination: str, token: AckToken) -> None:
        self._note_ack(destination, token, self.ask(destination, token, SettlementKind.ACK))
        self.compare()

    def fail(self, destination: str, token: AckToken, kind: SettlementKind, seconds: float | None) -> None:
        key = self.model.issued[destination, token]
        if self.model.settle(key, token, kind, self.ask(destination, token, kind, seconds), self.clock.now):
            self.model.fail(key, seconds, self.clock.now)
        self.compare()

    def give_back(self, destination: str, token: AckToken) -> None:
        key, kind = self.model.issued[destination, token], SettlementKind.RETURN
        if self.model.settle(key, token, kind, self.ask(destination, token, kind), self.clock.now):
            self.model.give_back(key)
        self.compare()

    def extend(self, destination: str, token: AckToken, seconds: float) -> None:
        key, kind = self.model.issued[destination, token], SettlementKind.EXTEND
        if self.model.settle(key, token, kind, self.ask(destination, token, kind, seconds), self.clock.now):
            self.model.extend(key, self.clock.now + round(seconds * SECOND))
        self.compare()

    def settle_what_is_none(self, destination: str, token: AckToken) -> None:
        """An ack id of one destination is none of another; nor is one that was never given out."""
        if self.model.issued[destination, token] in self.model.out:  # else its lane may be gone
            other = next(name for name in DESTINATIONS if name != destination)
            assert self.ask(other, token, SettlementKind.ACK) is AckStatus.UNKNOWN
            assert self.ask(destination, token._replace(claim=LATER), SettlementKind.ACK) is AckStatus.UNKNOWN
        assert self.ask(destination, token._replace(lane=10**6), SettlementKind.ACK) is AckStatus.UNKNOWN

    def assign(self, sender: str, destination: str, ack: tuple[str, AckToken] | None, seconds: float) -> None:
        conversation, key = Conversation(CHANNEL, sender), DeliveryKey(*ack) if ack else None
        outcome = self.run(self.store.assign(conversation, destination, ttl_seconds=seconds, ack=key))
        if ack is not None:
            self._note_ack_of(sender, *ack, outcome.ack_status)
        until = self.clock.now + round(seconds * SECOND)
        assert outcome.expires_at == until
        self._assignments[sender] = Assignment(destination, self.clock.now, until, AssignmentReason.ASSIGNED)
        self.model.assign(sender, destination, self._snapshot)
        self.compare(is_assigned=True)
        self._check_assignments()
        self._check_moved(sender, destination)

    def end_assignment(self, sender: str) -> None:
        self.run(self.store.assign(Conversation(CHANNEL, sender), None, ttl_seconds=0))
        self._assignments.pop(sender, None)
        self.compare()
        self._check_assignments()

    def redrive(self, which: DeadLetterSelection, limit: int) -> None:
        before = self.model.dead
        settled = self.run(self.store.redrive(which, after=0, limit=limit)).settled
        self.model.check_dead(self.read()[1], self.clock.now)
        redriven = before - self.model.dead
        assert len(redriven) == settled
        for key in redriven:
            self.model.redrive(key)
        self.compare()

    def discard(self, which: DeadLetterSelection) -> None:
        before = self.model.dead
        settled = self.run(self.store.discard_dead_letters(which, after=0, limit=1000)).settled
        self.model.check_dead(self.read()[1], self.clock.now)
        discarded = before - self.model.dead
        assert len(discarded) == settled
        for key in discarded:
            self.model.discard(key)
            self._replayed += key.is_replayed
        self.compare()

    def replay(self, destination: str) -> None:
        """Replay everything, once to each destination: then no message is twice in a lane of replays."""
        if destination not in self._replays:
            self._replays.add(destination)
            selection = ReplaySelection(channel_config_id=CHANNEL)
            self.run(self.store.start_replay(Replay(destination, destination, selection, 1000, "anna")))

    def advance_replays(self) -> int | None:
        return self.run(self.store.advance_replays())

    def configure(self, destination: str, settings: DestinationSettings) -> None:
        self.model.settings[destination] = self.run(self.store.update_destination(destination, lambda _: settings))

    def erase(self, sender: str) -> None:
        erased = self.run(self.store.erase_sender(Conversation(CHANNEL, sender), limit=1000))
        assert erased.messages == len(self.model.messages_of(sender))
        for sid in self.model.messages_of(sender):
            del self._sequences[sid]
        self.model.forget(sender)
        self._assignments.pop(sender, None)
        self._was_anybody_erased = True
        self.compare()

    def reopen(self) -> None:
        super().reopen()
        self.compare()

    def deliver_all(self) -> None:
        """Take and acknowledge until nothing is left, first what may come at once: so nothing can be stuck."""
        for _ in range(3):
            self._acknowledge_all(most=1)
        if self.model.held:
            self.release(("bot",), set(self.model.held))
        is_quiet = False
        for _ in range(MOST_ROUNDS):
            is_replaying = self.advance_replays() is not None
            if self.model.dead:
                self.redrive(EVERYTHING, 1000)
            if self._acknowledge_all(most=1000):
                is_quiet = False
                continue
            if is_quiet and not is_replaying:
                break
            is_quiet = True
            self.clock.advance(700)
        self._check_all_is_done()

    def _acknowledge_all(self, *, most: int) -> bool:
        """Take what may come, and settle so much of what is out; return whether there was any."""
        taken = [delivery for name in DESTINATIONS for delivery in self.claim(name, 1000)]
        acknowledged = 0
        for key, lease in list(self.model.out.items()):
            if acknowledged < most:
                status = self.ask(key.destination, lease.token, SettlementKind.ACK)
                acknowledged += self._note_ack(key.destination, lease.token, status)
        self.compare()
        return bool(taken or acknowledged)

    def compare(self, *, is_assigned: bool = False) -> None:
        """Look at the store, and check that it is as the model has it."""
        self._follow(is_assigned=is_assigned)
        self.model.check_snapshot(self._snapshot, self.clock.now)

    def _follow(self, *, is_assigned: bool = False) -> None:
        before = self._snapshot
        self._snapshot, letters = self.read()
        self.model.check_dead(letters, self.clock.now)
        self.model.note_moves(before, self._snapshot, is_assigned=is_assigned)

    def _check_assignments(self) -> None:
        for sender in SENDERS:
            found = self.run(self.store.find_assignment(Conversation(CHANNEL, sender)))
            assert found == self._assignment_of(sender)

    def _accept(self, sid: str, sender: str, decision: Decision) -> Decision:
        """Note a new message; return what must become of its decision."""
        if decision.hold_reason is not None:
            self.model.held.add(sid)
            return decision
        assignment = self._assignment_of(sender)
        is_affinity = assignment is not None and assignment.reason is AssignmentReason.AFFINITY
        if assignment is not None and (decision.affinity_seconds or not is_affinity):
            decision = decision.assigned(assignment)
        for name in decision.destinations:
            self.model.place(name, sid)
        if decision.affinity_seconds and (assignment is None or is_affinity):
            since = assignment.assigned_at if assignment is not None else self.clock.now
            until = self.clock.now + decision.affinity_seconds * SECOND
            self._assignments[sender] = Assignment(decision.destinations[0], since, until, AssignmentReason.AFFINITY)
        return decision

    def _note_ack(self, destination: str, token: AckToken, status: AckStatus) -> bool:
        key = self.model.issued[destination, token]
        is_good = self.model.settle(key, token, SettlementKind.ACK, status, self.clock.now)
        if is_good:
            self.model.acknowledge(key)
            self._replayed += key.is_replayed
        return is_good

    def _note_ack_of(self, sender: str, destination: str, token: AckToken, status: AckStatus | None) -> None:
        """The ack of an assignment is good for its own conversation only."""
        assert status is not None
        if self.model.senders.get(self.model.issued[destination, token].sid, sender) == sender:
            self._note_ack(destination, token, status)
        else:
            assert status is not AckStatus.OK

    def _check_moved(self, sender: str, destination: str) -> None:
        """What waits in its first destination has moved; what is out may."""
        for sid in self.model.messages_of(sender):
            for status in self._snapshot[sid].deliveries[:1]:
                key = Key(status.destination, sid)
                if status.state is DeliveryState.WAITING and key not in self.model.out:
                    assert key.destination == destination

    def _check_all_is_done(self) -> None:
        for sid, stored in self._snapshot.items():
            assert all(Key(status.destination, sid) in self.model.told for status in stored.deliveries), (
                f"{sid} is stuck"
            )
        assert not any(status.backlog for status in self.run(self.store.list_destinations()))
        replays = [self.run(self.store.find_replay(name)) for name in self._replays]
        queued = sum(replay.queued for replay in replays if replay is not None)
        assert self._was_anybody_erased or queued == self._replayed

    def _assignment_of(self, sender: str) -> Assignment | None:
        assignment = self._assignments.get(sender)
        return assignment if assignment is not None and assignment.expires_at > self.clock.now else None


def _a_message(number: int, names: tuple[str, ...], hold: HoldReason | None, affinity: int, received_at: int) -> Any:
    sid = f"SM{number}"
    return a_message(
        sid,
        sender=SENDERS[number % len(SENDERS)],
        destinations=names if hold is None else (),
        hold_reason=hold,
        payload=sid.encode(),
        received_at=received_at,
        affinity_seconds=affinity,
    )


def _sid(delivery: ClaimedDelivery) -> str:
    return delivery.payload.decode()
