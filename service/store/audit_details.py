"""The details of audit entries as the JSON text that every database keeps; and how an address is shortened in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from service.models import DestinationSettings


def dump_details(details: Mapping[str, object]) -> str:
    """Return details as JSON, all of them as text."""
    return json.dumps({name: str(value) for name, value in details.items()}, ensure_ascii=False)


def load_details(text: str) -> dict[str, str]:
    """Read what `dump_details` wrote."""
    details: dict[str, str] = json.loads(text)
    return details


def find_differences(before: DestinationSettings, after: DestinationSettings) -> dict[str, str]:
    """Return what has changed, each by its name: `60.0 → 30.0`."""
    pairs = {field.name: (getattr(before, field.name), getattr(after, field.name)) for field in fields(before)}
    return {name: f"{old} → {new}" for name, (old, new) in pairs.items() if old != new}


def shorten(address: str) -> str:
    """Return an address so that it tells people apart but reaches nobody: `whatsapp:+4477…23`."""
    scheme, colon, number = address.rpartition(":")
    shown = f"{number[:5]}…{number[-2:]}" if len(number) >= 10 else "…"
    return f"{scheme}{colon}{shown}"
