"""What operators look at and settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.models.messages import Decision, HoldReason, MessageKey


@dataclass(frozen=True, slots=True)
class HeldSelection:
    """Which held messages: these, else those that channel and reason let through."""

    keys: tuple[MessageKey, ...] = ()
    channel_config_id: str | None = None
    hold_reason: HoldReason | None = None


class HeldMessage(NamedTuple):
    """A held message, and what is needed to route it anew."""

    sequence: int
    channel_config_id: str
    payload: bytes


class Release(NamedTuple):
    """Where a held or stored message goes now.

    `follows_assignment`: the decision is that of the routes, so where its conversation is assigned, it goes there.
    """

    sequence: int
    decision: Decision
    follows_assignment: bool = False


class ReRouting(NamedTuple):
    """The decision that a stored message has now, and whether that has changed its deliveries."""

    decision: Decision
    has_changed: bool


class Clash(NamedTuple):
    """Another message that came with the id of a stored one."""

    payload: bytes
    committed_at: int


class QuarantinedRequest(NamedTuple):
    """A request that is no valid MO message. `payload` is all of it, serialised.

    `is_accepted`: the provider was told that we have it, so it stays until an operator settles it. `senders`: whom it
    may be from, as senders are written in messages; `received_at` in microseconds since 1970.
    """

    entry_id: str
    channel_config_id: str
    is_accepted: bool
    payload: bytes
    senders: Sequence[str] = ()
    received_at: int = 0


class QuarantinePage(NamedTuple):
    """Quarantined requests, newest first. `next_before`: where the next page starts, None on the last."""

    payloads: Sequence[bytes]
    next_before: int | None


class ChannelActivity(NamedTuple):
    """What came in on a channel."""

    channel_config_id: str
    last_message_at: int | None
    messages: int
    recovered: int
    clashes: int


class Summary(NamedTuple):
    """How the store stands."""

    held: int
    quarantined: int
    channels: Sequence[ChannelActivity]


class ErasedCounts(NamedTuple):
    """How many were removed of a sender. `is_complete`: nothing is left."""

    messages: int = 0
    deliveries: int = 0
    dead_letters: int = 0
    held: int = 0
    clashes: int = 0
    is_complete: bool = True


class AuditEntry(NamedTuple):
    """Something that was done by hand, or that followed from it. `details`: names and numbers, nobody's words."""

    actor: str
    action: str
    details: Mapping[str, str]
    number: int = 0
    at: int = 0


class QuarantineKey(NamedTuple):
    """A quarantined request that is not settled, to look at its content."""

    number: int
    entry_id: str
    payload: bytes
