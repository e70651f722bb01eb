"""What was done to a feed, and what follows from it for each delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from service.models import (
    AckToken,
    DeliveryState,
    DestinationSettings,
    StoredMessage,
)

SECOND = 1_000_000
SETTINGS = DestinationSettings(
    min_backoff_seconds=1.0, max_backoff_seconds=4.0, backoff_jitter=0.0, max_attempts=3, ack_deadline_seconds=10.0
)

Snapshot = Mapping[str, StoredMessage]
"""What the store tells of each message, by MessageSid."""


class Key(NamedTuple):
    """A delivery: a message for a destination, live or replayed."""

    destination: str
    sid: str
    is_replayed: bool = False


class Lease(NamedTuple):
    """A claim that is not settled. Past its deadline it may have been taken for expired, or not yet."""

    token: AckToken
    deadline_at: int
    attempt: int


@dataclass
class Knowledge:
    """What is known of a store with one channel."""

    settings: dict[str, DestinationSettings]
    senders: dict[str, str] = field(default_factory=dict)
    """Of every message that was stored and not erased."""
    held: set[str] = field(default_factory=set)
    settled: set[Key] = field(default_factory=set)
    told: dict[Key, DeliveryState] = field(default_factory=dict)
    """What the store must tell of what is settled, by a live delivery or a replayed one."""
    dead: set[Key] = field(default_factory=set)
    issued: dict[tuple[str, AckToken], Key] = field(default_factory=dict)
    out: dict[Key, Lease] = field(default_factory=dict)
    failed: dict[Key, int] = field(default_factory=dict)
    """How many attempts have failed of what isn't out."""
    last_failure: tuple[Key, int] | None = None
    seen: set[Key] = field(default_factory=set)
    """What was delivered at least once."""
    beside: set[Key] = field(default_factory=set)
    """What was stored without order."""
    in_front: set[Key] = field(default_factory=set)
    """What may come before older ones: released, redriven, or moved after it was out."""
    together: set[Key] = field(default_factory=set)
    """What was released or redriven, and has not come yet: in order among itself, until an assignment orders all."""
    leaving: set[Key] = field(default_factory=set)
    """What must have moved, because its attempt has ended."""
    shaken: set[Key] = field(default_factory=set)
    """What may have lost its place at the head, and with it back-off and an expired lease."""
    forgotten: set[Key] = field(default_factory=set)
    """What may have lost its failed attempts."""
    not_before: dict[Key, int] = field(default_factory=dict)
    due_by: dict[Key, int] = field(default_factory=dict)
    waits: dict[str, tuple[str, set[Key]]] = field(default_factory=dict)
    """By sender: the destination that waits, and what was out elsewhere when the conversation was assigned to it."""

    def is_out(self, key: Key, now: int) -> bool:
        """Whether a consumer has it for certain."""
        return key in self.out and self.out[key].deadline_at > now

    def leaves(self, key: Key) -> bool:
        """Whether it moves to another destination when its attempt ends."""
        return key in self._awaited(key)[1]

    def place(self, destination: str, sid: str, *, in_front: bool = False) -> None:
        """Note that a live message was put into a destination."""
        key = Key(destination, sid)
        self.failed.pop(key, None)
        if self.settings[destination].is_ordered:
            self.beside.discard(key)
        else:
            self.beside.add(key)
        if in_front:
            self.shake(self.senders[sid], is_forgetting=False)
            self.in_front.add(key)
            self.together.add(key)

    def shake(self, sender: str, *, is_forgetting: bool = True) -> None:
        """Note that the heads of a conversation's lanes may have changed, and may have lost their attempts with it."""
        for sid in self.messages_of(sender):
            for key in self._keys(sid):
                self.shaken.add(key)
                self.not_before.pop(key, None)
                if is_forgetting:
                    self.forgotten.add(key)

    def messages_of(self, sender: str) -> set[str]:
        """Return the messages of a conversation."""
        return {sid for sid, its_sender in self.senders.items() if its_sender == sender}

    def forget(self, sender: str) -> None:
        """Note that a sender was erased."""
        for sid in self.messages_of(sender):
            for key in self._keys(sid):
                self._end(key)
                self._leave(key)
                self.told.pop(key, None)
                self.failed.pop(key, None)
                for keys in (
                    self.settled,
                    self.dead,
                    self.seen,
                    self.in_front,
                    self.together,
                    self.shaken,
                    self.forgotten,
                ):
                    keys.discard(key)
            self.held.discard(sid)
            del self.senders[sid]
        self.waits.pop(sender, None)

    def assign(self, sender: str, destination: str, before: Snapshot) -> None:
        """Note that a conversation was assigned."""
        out = [key for key in self.out if not key.is_replayed and self.senders[key.sid] == sender]
        awaited = {
            key
            for key in out
            if key.destination != destination and before[key.sid].decision.destinations[0] == key.destination
        }
        self.waits[sender] = destination, awaited
        self.in_front |= {Key(destination, key.sid) for key in awaited}
        self.together -= {key for key in self.together if self.senders[key.sid] == sender}
        self.shake(sender)

    def acknowledge(self, key: Key) -> None:
        """Note that a delivery is done."""
        self._end(key)
        self.told[key._replace(is_replayed=False)] = DeliveryState.ACKNOWLEDGED
        self.settled.add(key)

    def discard(self, key: Key) -> None:
        """Note that a dead letter was discarded."""
        self.told.setdefault(key._replace(is_replayed=False), DeliveryState.DISCARDED)
        self.settled.add(key)

    def redrive(self, key: Key) -> None:
        """Note that a dead letter was put back."""
        if key.is_replayed:
            self.shake(self.senders[key.sid], is_forgetting=False)
        else:
            self.place(*key[:2], in_front=True)
        self.failed.pop(key, None)

    def fail(self, key: Key, delay_seconds: float | None, now: int) -> None:
        """Note a failed attempt that was told to the store."""
        attempt = self.out[key].attempt
        self.last_failure = key, attempt
        seconds = SETTINGS.backoff_seconds(attempt, 0.0) if delay_seconds is None else delay_seconds
        self.not_before[key] = self.due_by[key] = now + round(seconds * SECOND)
        self.failed[key] = attempt
        self._end_in_vain(key)

    def give_back(self, key: Key) -> None:
        """Note an attempt that counts for nothing."""
        self.failed[key] = self.out[key].attempt - 1
        self._end_in_vain(key)

    def extend(self, key: Key, deadline_at: int) -> None:
        """Note another end of a lease."""
        self.out[key] = self.out[key]._replace(deadline_at=deadline_at)

    def _keys(self, sid: str) -> list[Key]:
        return [Key(name, sid, is_replayed) for name in self.settings for is_replayed in (False, True)]

    def _awaited(self, key: Key) -> tuple[str, set[Key]]:
        return self.waits.get(self.senders[key.sid], ("", set()))

    def _end(self, key: Key) -> None:
        self.out.pop(key, None)
        self._awaited(key)[1].discard(key)

    def _end_in_vain(self, key: Key) -> None:
        if self.leaves(key):
            self.leaving.add(key)
            self.shake(self.senders[key.sid])
        self._end(key)

    def _leave(self, key: Key) -> None:
        self.beside.discard(key)
        self.due_by.pop(key, None)
        self.not_before.pop(key, None)
