"""The share of conversations that a route with a percentage takes."""

from __future__ import annotations

from hashlib import blake2b

WHOLE = 10_000
"""Basis points of everything."""


def is_in_share(basis_points: int, route_id: str, channel_config_id: str, sender: str) -> bool:
    """Whether a conversation belongs to the share: the same answer each time, on every machine.

    The first 8 bytes (big-endian) of the BLAKE2b digest of route id, channel and sender as UTF-8
    with a NUL between them, modulo 10,000, is the conversation's place, and a share takes the
    places below it. So a larger one keeps the conversations of a smaller one, and two routes
    share conversations out independently of each other. No route id and no channel holds a NUL.
    """
    if basis_points >= WHOLE:
        return True
    key = f"{route_id}\0{channel_config_id}\0{sender}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest()) % WHOLE < basis_points
