"""Webhook passwords: made, hashed with argon2id, never kept."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import string
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import argon2
from argon2.low_level import Type, hash_secret

ALPHABET = string.ascii_letters + string.digits + "._~-"
"""What Twilio carries through a URL without percent-encoding."""

DEFAULT_MEMORY_KIB = 19 * 1024
DEFAULT_PASSES = 2
LANES = 1
HASH_BYTES = 32
SALT_BYTES = 16

NICENESS = 10

PHC = re.compile(
    r"\$argon2id\$v=19\$m=[0-9]{1,9},t=[0-9]{1,5},p=[0-9]{1,3}\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Hashing:
    """A setting of argon2id, with one lane. OWASP's unless it is raised."""

    memory_kib: int = DEFAULT_MEMORY_KIB
    passes: int = DEFAULT_PASSES


class Hasher:
    """Hashes passwords under one setting, in turn, on a thread for each core.

    A hash takes some 40 ms of one. Several hundred channels may be made at once: their threads have what messages, and
    those who hold the directory until their commit, leave them.
    """

    def __init__(self, hashing: Hashing) -> None:
        self.hashing = hashing
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="argon2", initializer=_give_way)

    async def hash(self, password: str, *, like: str | None = None) -> str:
        """Do as `hash_password` does."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: hash_password(password, self.hashing, like=like))

    def close(self) -> None:
        """Begin no hash any more. A repeat does nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _give_way() -> None:
    """Let the thread that runs this have only what the others leave it. Where threads have a niceness: on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it; then it competes
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def generate_password() -> str:
    """Return 32 characters: 192 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(32))


def hash_password(password: str, hashing: Hashing, *, like: str | None = None) -> str:
    """Return the argon2id hash as a PHC string. That takes long: see `Hasher`.

    With `like`, another hash of ours, under its salt and its setting: then one computation can check a
    password against both. That tells whoever reads the store only whether the two passwords are equal.
    """
    salt = _salt_of(like) if like else os.urandom(SALT_BYTES)
    used = _hashing_of(like) if like else hashing
    secret = password.encode()
    return hash_secret(secret, salt, used.passes, used.memory_kib, LANES, HASH_BYTES, Type.ID).decode("ascii")


def is_weaker(phc: str, wanted: Hashing) -> bool:
    """Whether a hash of ours was made with less memory or fewer passes than is wanted."""
    used = _hashing_of(phc)
    return used.memory_kib < wanted.memory_kib or used.passes < wanted.passes


def is_of(phc: str, wanted: Hashing) -> bool:
    """Whether a text is an argon2id hash of just this setting."""
    if not PHC.fullmatch(phc):
        return False
    return _hashing_of(phc) == wanted and argon2.extract_parameters(phc).parallelism == LANES


def _hashing_of(phc: str) -> Hashing:
    parameters = argon2.extract_parameters(phc)
    return Hashing(parameters.memory_cost, parameters.time_cost)


def _salt_of(phc: str) -> bytes:
    encoded = phc.split("$")[4]
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))
