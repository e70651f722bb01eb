"""What the audit log says of a change of a channel. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from service.models import AuditEntry, Channel
from service.store.audit_details import shorten

SETTINGS = ("state", "destination", "infer_message_type", "affinity_seconds", "signature_check")
"""What is shown as it was and as it is now."""


def describe_update(actor: str, before: Channel, after: Channel) -> AuditEntry:
    """Tell who changed which settings, from what to what."""
    return AuditEntry(actor, "channel-update", {"channel": after.channel_config_id} | dict(_differences(before, after)))


def _differences(before: Channel, after: Channel) -> Iterator[tuple[str, str]]:
    for name in SETTINGS:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield name, f"{old} → {new}"
    if before.number != after.number:
        yield "number", f"{_short(before.number)} → {_short(after.number)}"
    if before.credentials.webhook_user != after.credentials.webhook_user:
        yield "webhook_user", "another one"


def _short(number: str) -> str:
    return shorten(number) if number else "none"
