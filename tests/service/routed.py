"""What routes look at, for tests of routing."""

from __future__ import annotations

from datetime import datetime

from service.models import MessageFacts

NOON = "2026-11-23T12:00:00Z"
"""A Monday."""


def facts(
    body: str | None = "Hello",
    *,
    types: tuple[str, ...] = ("TEXT",),
    sender: str = "whatsapp:+447700900123",
    received: str = NOON,
    payload: str | None = None,
    is_reply: bool = False,
    has_referral: bool = False,
) -> MessageFacts:
    return MessageFacts("C1", types, sender, _microseconds(received), body, payload, is_reply, has_referral)


def at(received: str) -> MessageFacts:
    """A message that was received then."""
    return facts(received=received)


def _microseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
