"""What was sent, answered, stored and delivered; and whether the books balance. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


class Archived(NamedTuple):
    """A message as the archive lists it."""

    message_sid: str
    sender: str
    body: str
    sequence: int


class Posted(NamedTuple):
    """A message as it was posted for the first time."""

    sender: str
    number: int
    body: str


class Seen(NamedTuple):
    """One delivery of a message."""

    message_sid: str
    sequence: int
    attempt: int
    deadline_at: int
    """When its lease ends, in nanoseconds: of two deliveries of a message, that of the later one is later."""


@dataclass(frozen=True)
class Verdict:
    """What went wrong: each is a count, and 0 in a good run. `examples` name the first of each."""

    lost: int
    never_delivered: int
    duplicated: int
    delivered_after_ack: int
    foreign: int
    altered: int
    reordered: int
    delivered_out_of_order: int
    answered_twice: int
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.examples

    def __str__(self) -> str:
        return "; ".join(f"{name}: {', '.join(found)}" for name, found in self.examples.items()) or "clean"


class Ledger:
    """The books of one round. A conversation is a sender, whose messages are posted one after the other."""

    def __init__(self) -> None:
        self.posted: dict[str, Posted] = {}
        self.accepted: set[str] = set()
        self._first_deliveries: dict[str, list[str]] = defaultdict(list)
        self._delivered: dict[str, set[Seen]] = defaultdict(set)
        self._acknowledged: dict[int, Seen] = {}
        self._late: list[str] = []
        self._answered_twice: list[str] = []
        self.posted_count = 0
        self.accepted_count = 0
        self.deliveries = 0

    def post(self, message_sid: str, posted: Posted) -> None:
        """Note that a message is about to be posted for the first time."""
        self.posted[message_sid] = posted
        self.posted_count += 1

    def accept(self, message_sid: str) -> None:
        """Note its 2xx."""
        self.accepted.add(message_sid)
        self.accepted_count += 1

    def deliver(self, sender: str, seen: Seen) -> None:
        """Note that a consumer was given it."""
        self.deliveries += 1
        if seen.message_sid not in self._delivered:
            self._first_deliveries[sender].append(seen.message_sid)
        self._check_not_settled(seen)
        self._delivered[seen.message_sid].add(seen)

    def acknowledge(self, seen: Seen) -> None:
        """Note that an acknowledgement took effect."""
        self._acknowledged[seen.sequence] = seen

    def note_surplus_answer(self, ack_id: str) -> None:
        """Note that an acknowledgement was answered that was answered before, or never made."""
        self._answered_twice.append(ack_id)

    @property
    def undelivered(self) -> int:
        """How many messages had their 2xx and were given to nobody yet."""
        return len(self.accepted - self._delivered.keys())

    def judge(self, archive: Sequence[Archived]) -> Verdict:
        """Compare with all that is stored."""
        copies = Counter(message.message_sid for message in archive)
        ours = [message for message in archive if message.message_sid in self.posted]
        found = {
            "lost": sorted(self.accepted - copies.keys()),
            "never_delivered": sorted(self.accepted - self._delivered.keys()),
            "duplicated": sorted(message_sid for message_sid, count in copies.items() if count > 1),
            "delivered_after_ack": self._late,
            "foreign": sorted((copies.keys() | self._delivered.keys()) - self.posted.keys()),
            "altered": [message.message_sid for message in ours if self._is_altered(message)],
            "reordered": self._find_inversions(_group(ours)),
            "delivered_out_of_order": self._find_inversions(self._first_deliveries),
            "answered_twice": self._answered_twice,
        }
        return Verdict(
            **{name: len(sids) for name, sids in found.items()},
            examples={name: sids[:5] for name, sids in found.items() if sids},
        )

    def forget(self) -> None:
        """Let go of the messages, once they are judged; the counts stay."""
        for kept in (self.posted, self.accepted, self._first_deliveries, self._delivered, self._acknowledged):
            kept.clear()

    def _check_not_settled(self, seen: Seen) -> None:
        """Note a delivery that must not be.

        An earlier one may have been on its way for long: it is none if it wasn't seen yet. Their leases tell which one
        is earlier: where a crash of PostgreSQL took a lease back, the next attempt has the same number.
        """
        acknowledged = self._acknowledged.get(seen.sequence)
        if acknowledged is None:
            return
        if seen.deadline_at >= acknowledged.deadline_at or seen in self._delivered[seen.message_sid]:
            self._late.append(seen.message_sid)

    def _is_altered(self, message: Archived) -> bool:
        posted = self.posted[message.message_sid]
        return (message.sender, message.body) != (posted.sender, posted.body)

    def _find_inversions(self, conversations: Mapping[str, Iterable[str]]) -> list[str]:
        """Return each message that comes after a later one of its conversation."""
        return [
            after
            for message_sids in conversations.values()
            for before, after in pairwise(sid for sid in message_sids if sid in self.posted)
            if self.posted[before].number > self.posted[after].number
        ]


def _group(archive: Sequence[Archived]) -> Mapping[str, Sequence[str]]:
    """Return each conversation's messages in the order in which they are stored."""
    conversations: dict[str, list[str]] = defaultdict(list)
    for message in sorted(archive, key=lambda message: message.sequence):
        conversations[message.sender].append(message.message_sid)
    return conversations
