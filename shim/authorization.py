"""Whether a caller may speak for a channel.

Argon2id makes one password cost 40 ms and 19 MiB, so what was verified once is remembered as a keyed digest for as
long as the channel's credentials stand. Everything else costs exactly one computation in a small pool, whether it is
the password that is wrong, the user, or the channel that doesn't exist: the time of a refusal tells nothing. Wrong
ones are limited for each channel, existing or not, and for each address that they come from, if that is known.
"""

import asyncio
import contextlib
import math
import os
import secrets
import sys
import threading
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from hmac import compare_digest

import argon2
from argon2.low_level import Type, hash_secret_raw

from shim.channel import Channel, PasswordHash
from shim.credentials import Credentials
from shim.errors import GuessLimitError, OverloadError
from shim.guesses import GuessLimit
from shim.metrics import VerificationMetrics
from shim.passwords import Hashing, hash_password
from shim.verification_limits import VerificationLimits

_NICENESS = 10
"""Of the threads that compute: what was verified before goes on while somebody guesses."""


@dataclass(slots=True)
class _Remembered:
    """The digests that are good for a channel, each with the time at which its password ends."""

    credential_revision: int
    digests: dict[bytes, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Question:
    """What one computation answers: whether a password has one of these hashes."""

    salt: bytes
    time_cost: int
    memory_cost: int
    parallelism: int
    version: int
    type: Type
    answers: tuple[tuple[bytes, PasswordHash | None], ...]

    def find_match(self, password: bytes) -> PasswordHash | None:
        """Compute once, and compare with every answer in constant time. Takes 40 ms: not for the event loop."""
        computed = hash_secret_raw(
            password,
            self.salt,
            self.time_cost,
            self.memory_cost,
            self.parallelism,
            len(self.answers[0][0]),
            self.type,
            self.version,
        )
        # Every one of them, so that the time doesn't tell which matched.
        found = [password_hash for answer, password_hash in self.answers if compare_digest(answer, computed)]
        return max(filter(None, found), key=_ends_at, default=None)


class Verifier:
    """Verifies credentials against channels; remembers what it verified."""

    def __init__(
        self,
        *,
        limits: VerificationLimits,
        metrics: VerificationMetrics,
        clock: Callable[[], float],
        monotonic_clock: Callable[[], float],
        note_use: Callable[[str, str], None],
    ) -> None:
        """`clock` tells when passwords end, `monotonic_clock` how fast somebody guesses.

        `note_use` hears of each use of a password: its channel and its id.
        """
        self._note_use = note_use
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="argon2", initializer=_give_way)
        self._channel_guesses = GuessLimit(limits.guesses_per_channel, monotonic_clock)
        self._source_guesses = GuessLimit(limits.guesses_per_source, monotonic_clock)
        self._digest_key = secrets.token_bytes(32)
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._running: dict[tuple[str, int, bytes], asyncio.Future[bool]] = {}
        # For callers of channels that don't exist: as much work as the last existing one was, and no password has this
        # answer.
        self._unanswerable = _Question(
            salt=secrets.token_bytes(16),
            time_cost=2,
            memory_cost=19_456,
            parallelism=1,
            version=argon2.low_level.ARGON2_VERSION,
            type=Type.ID,
            answers=((secrets.token_bytes(32), None),),
        )
        metrics.waiting.set_function(lambda: len(self._running))

    def is_remembered(self, channel: Channel, credentials: Credentials) -> bool:
        """Whether these very credentials were verified for the channel, and still stand. Takes microseconds."""
        remembered = self._remembered.get(channel.channel_config_id)
        if remembered is None or remembered.credential_revision != channel.credential_revision:
            return False
        digest = self._digest(credentials)
        for known, expires_at in remembered.digests.items():
            if compare_digest(known, digest) and (expires_at is None or self._clock() < expires_at):
                self._remembered.move_to_end(channel.channel_config_id)
                self._metrics.remembered.inc()
                self._note(channel, expires_at)
                return True
        return False

    async def verify(
        self, channel_config_id: str, channel: Channel | None, credentials: Credentials, source: str | None = None
    ) -> bool:
        """Verify credentials with one computation, also when there is no such channel.

        Who asks the same of the same channel meanwhile shares the computation. Raises `OverloadError` when too many
        wait already, and `GuessLimitError` when there were too many wrong ones for the channel or from that source.
        """
        revision = channel.credential_revision if channel else -1
        key = (channel_config_id, revision, self._digest(credentials))
        running = self._running.get(key)
        if running is None:
            self._check_limits(channel_config_id, source)
            running = asyncio.ensure_future(self._guess(channel_config_id, channel, credentials, source))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key))
        # Shielded: a caller who is cancelled takes the answer from nobody else.
        is_correct = await asyncio.shield(running)
        (self._metrics.correct if is_correct else self._metrics.wrong).inc()
        return is_correct

    async def make_hash(self, password: str, hashing: Hashing) -> str | None:
        """Hash a password in the threads that verify; None while all of them have something to verify."""
        if len(self._running) >= self._limits.threads:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._pool, hash_password, password, hashing)

    def close(self) -> None:
        """Stop. What still waits is dropped; what runs is waited for, as a thread can't be stopped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _check_limits(self, channel_config_id: str, source: str | None) -> None:
        if len(self._running) >= self._limits.threads + self._limits.max_waiting:
            self._metrics.overloaded.inc()
            raise OverloadError("too many credentials wait to be verified")
        if self._channel_guesses.is_reached(channel_config_id) or (source and self._source_guesses.is_reached(source)):
            self._metrics.limited.inc()
            raise GuessLimitError("too many wrong credentials came before these")

    async def _guess(
        self, channel_config_id: str, channel: Channel | None, credentials: Credentials, source: str | None
    ) -> bool:
        """Compute, which counts as a guess until it proves to be none."""
        taken = [(self._channel_guesses, channel_config_id)]
        if source:
            taken.append((self._source_guesses, source))
        for limit, key in taken:
            limit.take(key)
        is_correct = await self._compute(channel, credentials)
        if is_correct:
            for limit, key in taken:
                limit.give_back(key)
        return is_correct

    async def _compute(self, channel: Channel | None, credentials: Credentials) -> bool:
        question = self._find_question(channel)
        self._metrics.computations.inc()
        found = await asyncio.get_running_loop().run_in_executor(
            self._pool, question.find_match, credentials.password.encode()
        )
        user = channel.webhook_user if channel else ""
        is_user = compare_digest(user.encode(), credentials.user.encode())
        if channel is None or found is None or not is_user:
            return False
        self._remember(channel, credentials, found.expires_at)
        self._note(channel, found.expires_at)
        return True

    def _note(self, channel: Channel, expires_at: float | None) -> None:
        # By its end: a hash may have been replaced by a stronger one of the same password since.
        for password_hash in channel.password_hashes:
            if password_hash.expires_at == expires_at:
                self._note_use(channel.channel_config_id, password_hash.password_id)
                return

    def _find_question(self, channel: Channel | None) -> _Question:
        question = _find_question(channel, now=self._clock())
        if question is None:
            return self._unanswerable
        self._unanswerable = replace(question, salt=self._unanswerable.salt, answers=self._unanswerable.answers)
        return question

    def _remember(self, channel: Channel, credentials: Credentials, expires_at: float | None) -> None:
        remembered = self._remembered.get(channel.channel_config_id)
        if remembered is None or remembered.credential_revision != channel.credential_revision:
            remembered = self._remembered[channel.channel_config_id] = _Remembered(channel.credential_revision)
        # Bounded by itself: a channel has as many passwords as hashes.
        remembered.digests[self._digest(credentials)] = expires_at
        self._remembered.move_to_end(channel.channel_config_id)
        while len(self._remembered) > self._limits.max_remembered_channels:
            self._remembered.popitem(last=False)

    def _digest(self, credentials: Credentials) -> bytes:
        return blake2b(credentials.encoded, digest_size=32, key=self._digest_key).digest()


def _give_way() -> None:
    """Let the thread that runs this have only what the others leave it. Where threads have a niceness: on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it; then it competes
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _find_question(channel: Channel | None, *, now: float) -> _Question | None:
    """Make one question of the channel's passwords that have not ended. None when there are none."""
    valid = [
        password_hash
        for password_hash in (channel.password_hashes if channel else ())
        if password_hash.expires_at is None or now < password_hash.expires_at
    ]
    if not valid:
        return None
    settings, _, _ = valid[0].phc.rpartition("$")
    answers = tuple(
        (_decode(password_hash.phc.rpartition("$")[2]), password_hash)
        for password_hash in valid
        if password_hash.phc.startswith(settings + "$")
    )
    parameters = argon2.extract_parameters(valid[0].phc)
    return _Question(
        salt=_decode(settings.rpartition("$")[2]),
        time_cost=parameters.time_cost,
        memory_cost=parameters.memory_cost,
        parallelism=parameters.parallelism,
        version=parameters.version,
        type=parameters.type,
        answers=answers,
    )


def _ends_at(password_hash: PasswordHash) -> float:
    return math.inf if password_hash.expires_at is None else password_hash.expires_at


def _decode(text: str) -> bytes:
    """Decode the PHC string format's base64, which has no padding."""
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
