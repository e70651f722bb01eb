"""Signatures of requests: what a channel makes of them, what they are checked with, what the checks found."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class SignatureCheck(enum.StrEnum):
    """What a channel makes of the signatures of requests."""

    OFF = "OFF"
    OBSERVE = "OBSERVE"
    ENFORCE = "ENFORCE"


class SecretKind(enum.StrEnum):
    """What a secret is at the service provider."""

    AUTH_TOKEN = "AUTH_TOKEN"  # noqa: S105 - the name of a kind
    SHARED_KEY = "SHARED_KEY"


@dataclass(frozen=True, slots=True)
class SignatureSecret:
    """What requests may be signed with, sealed."""

    secret_id: str
    kind: SecretKind
    created_at: int
    sealed: bytes = field(repr=False)


class SignatureResult(enum.StrEnum):
    """What a check found."""

    VALID = "VALID"
    MISSING = "MISSING"
    MISMATCH = "MISMATCH"
    NO_SECRET = "NO_SECRET"  # noqa: S105 - the name of a result
    UNSUPPORTED = "UNSUPPORTED"
    UNREADABLE = "UNREADABLE"
    UNCHECKABLE = "UNCHECKABLE"


@dataclass(frozen=True, slots=True)
class SignatureCount:
    """How often checks on a channel found the same, and when last."""

    channel_config_id: str
    result: SignatureResult
    count: int
    last_at: int
