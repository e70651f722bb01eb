"""Webhook passwords: made, hashed with argon2id, never kept.

OWASP's setting (19 MiB, 2 passes, 1 lane), some 40 ms a hash: callers run it
on a thread.
"""

from __future__ import annotations

import base64
import os
import secrets
import string

from argon2.low_level import Type, hash_secret

ALPHABET = string.ascii_letters + string.digits + "._~-"
"""What Twilio carries through a URL without percent-encoding."""

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
HASH_BYTES = 32
SALT_BYTES = 16


def generate_password() -> str:
    """Return 32 characters: 192 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(32))


def hash_password(password: str, *, like: str | None = None) -> str:
    """Return the argon2id hash as a PHC string.

    With `like`, another hash of ours, under its salt: then one computation can check a password
    against both. That tells whoever reads the store only whether the two passwords are equal.
    """
    salt = _salt_of(like) if like else os.urandom(SALT_BYTES)
    return hash_secret(password.encode(), salt, PASSES, MEMORY_KIB, LANES, HASH_BYTES, Type.ID).decode("ascii")


def _salt_of(phc: str) -> bytes:
    encoded = phc.split("$")[4]
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))
