"""Records for tests; each builder names only what matters to its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.models import (
    Channel,
    Credentials,
    Decision,
    HoldReason,
    IncomingMessage,
    MessageFacts,
    RoutedMessage,
)


@dataclass
class ManualClock:
    """Stands still until it is moved."""

    now: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)


def a_channel(channel_config_id: str = "C1", **values: Any) -> Channel:
    credentials = values.pop("credentials", Credentials("user", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"))
    return Channel(channel_config_id, "twilio", credentials, **{"destination": "default", **values})


def a_message(
    sid: str,
    *,
    sender: str = "whatsapp:+1",
    channel: str = "C1",
    destinations: tuple[str, ...] = ("default",),
    hold_reason: HoldReason | None = None,
    payload: bytes = b"payload",
    route_id: str = "",
    received_at: int = 0,
    affinity_seconds: int = 0,
) -> RoutedMessage:
    facts = MessageFacts(channel, ("TEXT",), sender, received_at)
    message = IncomingMessage(channel, sid, sender, "whatsapp:+14155238886", received_at, lambda: facts, payload)
    return RoutedMessage(message, Decision(destinations, hold_reason, route_id, affinity_seconds=affinity_seconds))
