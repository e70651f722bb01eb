"""How strongly passwords are hashed."""

import secrets
from functools import lru_cache
from typing import NamedTuple

import argon2
from argon2.low_level import Type, hash_secret

_SALT_BYTES = 16
_HASH_BYTES = 32


class Hashing(NamedTuple):
    """A setting of argon2id, with one lane."""

    memory_kib: int
    passes: int


def hash_password(password: str, hashing: Hashing) -> str:
    """Return a new hash in the PHC string format. Takes 40 ms and more: not for the event loop."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return hash_secret(password.encode(), salt, hashing.passes, hashing.memory_kib, 1, _HASH_BYTES, Type.ID).decode(
        "ascii"
    )


@lru_cache(10_000)
def is_weaker(phc: str, wanted: Hashing) -> bool:
    """Whether a hash was made with less memory or fewer passes than is wanted. Asked for each request."""
    used = argon2.extract_parameters(phc)
    return used.memory_cost < wanted.memory_kib or used.time_cost < wanted.passes
