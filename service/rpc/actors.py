"""Who calls: what the audit log says of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from service.rpc.identities import identity_of

OPERATOR_KEY = "mo-operator"
LONGEST = 128


def actor_of(context: Any) -> str:
    """Return whom the caller's certificate names, and what the caller calls itself in the metadata `mo-operator`.

    Without a certificate, what it calls itself, else its address. Printable ASCII, at most 128 characters each.
    Nothing vouches for what a caller calls itself: beside a verified name, it is said to be just that.
    """
    called = next((value for key, value in context.invocation_metadata() or () if key == OPERATOR_KEY), "")
    named, identity = _printable(str(called)), _printable(identity_of(context) or "")
    if identity and named:
        return f"{identity} (calls itself {named})"
    return identity or named or _address_of(context.peer())


def _address_of(peer: str) -> str:
    """Return the address in gRPC's `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`, without its port."""
    family, _, address = unquote(peer).partition(":")
    if family in {"ipv4", "ipv6"}:
        address = address.rpartition(":")[0].strip("[]")
    return _printable(address) or _printable(peer) or "unknown"


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isprintable()).strip()[:LONGEST]
