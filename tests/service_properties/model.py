"""What the feed promises, as rules that are too simple to be wrong.

The model doesn't imitate lanes. It keeps what was said and done, looks at what
the store tells of its messages, and checks what every claim brings: whether
that may come now, and whether all came that must.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.models import AckStatus, AckToken, ClaimedDelivery, DeadLetter, DeliveryState, SettlementKind
from tests.service_properties.knowledge import SECOND, SETTINGS, Key, Knowledge, Lease, Snapshot


class Model(Knowledge):
    """What must be true, by what is known."""

    def note_moves(self, before: Snapshot, after: Snapshot, *, is_assigned: bool) -> None:
        """What has left a destination was assigned away or leaves by itself; should it come back, it comes in order."""
        for sid in before.keys() & after.keys():
            for destination in set(before[sid].decision.destinations) - set(after[sid].decision.destinations):
                key = Key(destination, sid)
                assert is_assigned or key in self.leaving or self.leaves(key), f"{key} has moved"
                self._end(key)
                self._leave(key)
        for key in self.leaving - self.dead:
            assert key.destination not in after[key.sid].decision.destinations, f"{key} has not moved"
        self.leaving.clear()

    def must_come(self, destination: str, before: Snapshot, now: int) -> set[str]:
        """Return the senders of whom a claim without bound must bring a live message."""
        return {sender for sender in self.senders.values() if self._must_come(destination, sender, before, now)}

    def check_claimed(self, destination: str, claimed: Sequence[ClaimedDelivery], after: Snapshot, now: int) -> None:
        """Each delivery may come."""
        for delivery in claimed:
            key = Key(destination, delivery.payload.decode(), delivery.is_replayed)
            assert (destination, delivery.token) not in self.issued
            assert delivery.sequence == after[key.sid].sequence
            self._check_may_come(key, after, now)
            self._check_attempt(key, delivery.attempt, now)
            self.issued[destination, delivery.token] = key
            self.out[key] = Lease(delivery.token, delivery.deadline_at, delivery.attempt)
            self.seen.add(key)
            self.shaken.discard(key)
            self.forgotten.discard(key)
            self.together.discard(key)
            self.not_before.pop(key, None)
            self.due_by.pop(key, None)

    def settle(self, key: Key, token: AckToken, kind: SettlementKind, status: AckStatus, now: int) -> bool:
        """Check the answer to a settlement; return whether it took effect."""
        lease = self.out.get(key)
        if lease is not None and lease.token == token and kind is SettlementKind.ACK and not self.is_out(key, now):
            # Late: good, unless something else has become of it meanwhile.
            assert status is AckStatus.OK or key in self.shaken or self.leaves(key)
        else:
            is_good = lease is not None and lease.token == token and self.is_out(key, now)
            assert status is (AckStatus.OK if is_good else AckStatus.STALE), f"{kind} of {key}"
        return status is AckStatus.OK

    def check_dead(self, letters: Sequence[DeadLetter], now: int) -> None:
        """Nothing is given up before its last attempt; what has just failed that often is."""
        keys = {Key(each.destination, each.payload.decode(), each.is_replayed) for each in letters}
        failure, self.last_failure = self.last_failure, None
        for key in keys - self.dead:
            if failure is None or key != failure[0]:
                assert not self.is_out(key, now)
                assert self.out[key].attempt >= self.settings[key.destination].max_attempts
                self._end(key)
        if failure is not None:
            key, attempt = failure
            assert (key in keys) is (attempt >= self.settings[key.destination].max_attempts)
        self.dead = keys

    def check_snapshot(self, snapshot: Snapshot, now: int) -> None:
        """Nothing is lost, and every delivery is as far as it was brought."""
        assert snapshot.keys() == self.senders.keys()
        for sid, stored in snapshot.items():
            assert (stored.decision.hold_reason is not None) is (sid in self.held)
            for status in stored.deliveries:
                key = Key(status.destination, sid)
                if key in self.told:
                    assert status.state is self.told[key], key
                elif {key, key._replace(is_replayed=True)} & self.dead:
                    assert status.state is DeliveryState.DEAD_LETTERED, key
                else:
                    is_out = self.is_out(key, now)
                    assert status.state is (DeliveryState.LEASED if is_out else DeliveryState.WAITING), key

    def _check_may_come(self, key: Key, after: Snapshot, now: int) -> None:
        assert key.sid not in self.held
        assert not self.is_out(key, now), f"{key} is out already"
        assert now >= self.not_before.get(key, 0), f"{key} comes before its back-off"
        if key.is_replayed:
            return
        assert key.destination in after[key.sid].decision.destinations
        assert key not in self.settled | self.dead, f"{key} comes again"
        if key in self.beside:
            return
        target, awaited = self._awaited(key)
        if target == key.destination:
            assert not any(self.is_out(each, now) for each in awaited), f"{key} doesn't wait"
        others = self._unsettled(key.destination, self.senders[key.sid], after) - self.beside - {key}
        assert not any(self.is_out(other, now) for other in others), f"{key} comes beside another"
        older = {other for other in others if after[other.sid].sequence < after[key.sid].sequence}
        if key in self.together:
            assert not older & self.together, f"{key} overtakes what was put there with it"
        elif key not in self.seen and key not in self.in_front:
            assert not older, f"{key} overtakes"

    def _check_attempt(self, key: Key, attempt: int, now: int) -> None:
        """Attempts count up; they may begin anew where the message was moved, or was put in front itself before."""
        lease = self.out.get(key)
        if lease is not None:
            back_off = round(SETTINGS.backoff_seconds(lease.attempt, 0.0) * SECOND)
            assert now >= lease.deadline_at + back_off or key in self.shaken, f"{key} comes before its back-off"
        failed = self.failed.get(key, 0) if lease is None else lease.attempt
        assert attempt in {failed + 1, 1 if key in self.forgotten else failed + 1}

    def _must_come(self, destination: str, sender: str, before: Snapshot, now: int) -> bool:
        unsettled = self._unsettled(destination, sender, before)
        if any(key in self.beside and self._is_ripe(key, now) for key in unsettled):
            return True
        lane = unsettled - self.beside
        target, awaited = self.waits.get(sender, ("", set()))
        if target == destination and any(self.is_out(key, now) for key in awaited):
            return False
        return all(self._is_ripe(key, now) for key in lane) and any(self._stays(key) for key in lane)

    def _is_ripe(self, key: Key, now: int) -> bool:
        lease = self.out.get(key)
        if lease is None:
            return self.due_by.get(key, 0) <= now
        return lease.deadline_at + round(SETTINGS.max_backoff_seconds * SECOND) <= now and self._stays(key)

    def _stays(self, key: Key) -> bool:
        """Whether it is in its lane after the end of the lease that is out, if any."""
        lease = self.out.get(key)
        is_last = lease is not None and lease.attempt >= self.settings[key.destination].max_attempts
        return not is_last and not self.leaves(key)

    def _unsettled(self, destination: str, sender: str, snapshot: Snapshot) -> set[Key]:
        """Return the live deliveries of a conversation that wait in a destination or are out."""
        keys = {Key(destination, sid) for sid in self.messages_of(sender) - self.held}
        here = {key for key in keys if destination in snapshot[key.sid].decision.destinations}
        return here - self.settled - self.dead
