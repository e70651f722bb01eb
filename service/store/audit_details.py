"""The details of audit entries as the JSON text that every database keeps; and how an address is shortened in them."""

from __future__ import annotations

import json
from collections.abc import Mapping


def dump_details(details: Mapping[str, object]) -> str:
    """Return details as JSON, all of them as text."""
    return json.dumps({name: str(value) for name, value in details.items()}, ensure_ascii=False)


def load_details(text: str) -> dict[str, str]:
    """Read what `dump_details` wrote."""
    details: dict[str, str] = json.loads(text)
    return details


def shorten(address: str) -> str:
    """Return an address so that it tells people apart but reaches nobody: `whatsapp:+4477…23`."""
    scheme, colon, number = address.rpartition(":")
    shown = f"{number[:5]}…{number[-2:]}" if len(number) >= 10 else "…"
    return f"{scheme}{colon}{shown}"
