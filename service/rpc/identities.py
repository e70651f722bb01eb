"""Whom a caller's certificate names."""

from __future__ import annotations

from typing import Any

NAMES = ("peer_uri", "peer_dns", "x509_common_name")
"""What gRPC calls the names in a verified certificate, in the order in which they count."""


def identity_of(context: Any) -> str | None:
    """Return the first URI among a certificate's alternative names, else the first DNS name, else its common name.

    None when nobody vouches for the caller: without TLS, and without a client certificate.
    """
    properties = context.auth_context()
    for name in NAMES:
        for value in properties.get(name, ()):
            if value:
                return str(value.decode("utf-8", "replace"))
    return None
