"""Channels, their credentials and routes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from service.models.signatures import SignatureCheck, SignatureSecret


class ChannelState(enum.StrEnum):
    """Whether a channel lets callers in."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    PAUSED = "PAUSED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Hours of some days. `days` are those on which it begins, Monday is 1; empty means every day.

    `start` and `end` are minutes since local midnight; one that ends at or before its start ends on the next day.
    """

    time_zone: str = "UTC"
    days: tuple[int, ...] = ()
    start: int = 0
    end: int = 1440


@dataclass(frozen=True, slots=True)
class Route:
    """A rule that sends messages to destinations.

    Everything that is set must match; the items of a tuple are alternatives; a
    route with nothing set matches every message. `basis_points` is the share of
    conversations that match, in hundredths of a percent.
    """

    route_id: str
    destinations: tuple[str, ...]
    message_types: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    body_pattern: str | None = None
    sender_prefixes: tuple[str, ...] = ()
    button_payloads: tuple[str, ...] = ()
    is_reply: bool | None = None
    has_referral: bool | None = None
    time_windows: tuple[TimeWindow, ...] = ()
    basis_points: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may call a channel. Both hashes share salt and parameters: one computation checks both."""

    webhook_user: str
    password_hash: str = field(repr=False)
    previous_password_hash: str | None = field(default=None, repr=False)
    previous_password_expires_at: int | None = None
    revision: int = 1
    """Changes with the user and the passwords. A hash that is replaced by a stronger one is the same password."""

    @property
    def password_id(self) -> str:
        return id_of_hash(self.password_hash)

    @property
    def previous_password_id(self) -> str | None:
        return id_of_hash(self.previous_password_hash) if self.previous_password_hash else None


def id_of_hash(phc: str) -> str:
    """Return what tells the password of this hash from the channel's other one, and says nothing about it."""
    return blake2b(phc.encode(), digest_size=8).hexdigest()


class PasswordUse(NamedTuple):
    """When a password of a channel was last used."""

    channel_config_id: str
    password_id: str
    used_at: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as stored. `revision` is the directory's when it last changed.

    `affinity_seconds`: how long a conversation stays where it was routed, after its last message; 0 for not at all.
    """

    channel_config_id: str
    provider: str
    credentials: Credentials
    number: str = ""
    state: ChannelState = ChannelState.ENABLED
    destination: str | None = None
    infer_message_type: bool = False
    affinity_seconds: int = 0
    signature_check: SignatureCheck = SignatureCheck.OFF
    signature_secrets: tuple[SignatureSecret, ...] = ()
    routes: tuple[Route, ...] = ()
    route_revision: int = 0
    revision: int = 0
    created_at: int = 0
    updated_at: int = 0


class DirectoryPosition(NamedTuple):
    """Which directory, and how far: revisions compare within one directory only."""

    directory_id: str
    revision: int


class ChannelChanges(NamedTuple):
    """What changed in the directory, oldest first, and where that leaves the reader.

    `is_reset`: this is the beginning, and what the reader has otherwise is to be forgotten.
    """

    channels: Sequence[Channel]
    position: DirectoryPosition
    caught_up: bool
    is_reset: bool = False


class RouteRevision(NamedTuple):
    """The routes of a channel as they once were."""

    revision: int
    created_at: int
    routes: tuple[Route, ...]
