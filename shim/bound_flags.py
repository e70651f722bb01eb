"""The flags that bound what the shim does at a time, and the values that they become."""

from typing import Any

import click

from shim.batch_limits import BatchLimits
from shim.connection_limits import ConnectionLimits
from shim.verification_limits import VerificationLimits

_CONNECTIONS = ConnectionLimits()
_BATCHES = BatchLimits()
_VERIFICATION = VerificationLimits()


def bounded(flag: str, low: int, high: int, default: int, explanation: str) -> click.Option:
    """Make a flag for a whole number from `low` to `high`."""
    return click.Option([flag], type=click.IntRange(low, high), default=default, help=explanation)


def bounds_of_connections() -> list[click.Parameter]:
    return [
        bounded(
            "--max-connections",
            1,
            1_000_000,
            _CONNECTIONS.max_connections,
            "Open connections of a worker; past it the next ones wait to be accepted.",
        ),
        bounded(
            "--max-body-bytes-in-memory",
            2**20,
            2**34,
            _CONNECTIONS.max_body_bytes,
            "Bytes of a worker's requests that are not answered yet; past it callers get 503, "
            "and past half of it those who were not verified before.",
        ),
        bounded("--head-seconds", 1, 600, int(_CONNECTIONS.head_seconds), "How long a request's head may take."),
        bounded(
            "--body-seconds",
            1,
            600,
            int(_CONNECTIONS.body_seconds),
            "How long its body, and reading the answer, may take.",
        ),
        bounded(
            "--idle-seconds", 1, 3_600, int(_CONNECTIONS.idle_seconds), "How long a connection may wait for the next."
        ),
        bounded(
            "--max-journal-bytes",
            2**20,
            2**50,
            10 * 2**30,
            "Bytes of the host's journal; past it callers get 503.",
        ),
    ]


def bounds_of_batches() -> list[click.Parameter]:
    return [
        bounded("--max-batch-messages", 1, 1_000, _BATCHES.max_messages, "Messages a batch."),
        bounded("--max-batches-in-flight", 1, 64, _BATCHES.max_in_flight, "Batches out at once."),
        bounded(
            "--gather-milliseconds",
            0,
            1_000,
            round(_BATCHES.gather_seconds * 1000),
            "How long after a batch the next one leaves at the earliest, if somebody began to wait while one was out. "
            "Less: sooner, and more CPU.",
        ),
        bounded(
            "--max-waiting-messages",
            1,
            10_000_000,
            _BATCHES.max_waiting_messages,
            "Messages that may wait for a batch; past it they go to the journal.",
        ),
        bounded(
            "--max-waiting-bytes",
            2**20,
            2**34,
            _BATCHES.max_waiting_bytes,
            "Bytes that may wait for a batch; past it messages go to the journal.",
        ),
    ]


def bounds_of_verification() -> list[click.Parameter]:
    return [
        bounded(
            "--verification-threads", 1, 64, _VERIFICATION.threads, "Passwords verified at once: 40 ms, 19 MiB each."
        ),
        bounded(
            "--max-waiting-verifications",
            0,
            10_000,
            _VERIFICATION.max_waiting,
            "Passwords that may wait to be verified; past it callers get 503.",
        ),
        bounded(
            "--max-guesses-per-channel",
            1,
            100_000,
            _VERIFICATION.guesses_per_channel,
            "Wrong passwords a minute for a channel; past it who wasn't verified before gets 503.",
        ),
        bounded(
            "--max-guesses-per-source",
            1,
            100_000,
            _VERIFICATION.guesses_per_source,
            "Wrong passwords a minute from an address, with --trusted-proxy; past it the same.",
        ),
    ]


def to_connections(values: dict[str, Any]) -> ConnectionLimits:
    return ConnectionLimits(
        max_connections=values["max_connections"],
        max_body_bytes=values["max_body_bytes_in_memory"],
        head_seconds=values["head_seconds"],
        body_seconds=values["body_seconds"],
        idle_seconds=values["idle_seconds"],
    )


def to_batches(values: dict[str, Any]) -> BatchLimits:
    return BatchLimits(
        max_messages=values["max_batch_messages"],
        max_in_flight=values["max_batches_in_flight"],
        gather_seconds=values["gather_milliseconds"] / 1000,
        max_waiting_messages=values["max_waiting_messages"],
        max_waiting_bytes=values["max_waiting_bytes"],
    )


def to_verification(values: dict[str, Any]) -> VerificationLimits:
    return VerificationLimits(
        threads=values["verification_threads"],
        max_waiting=values["max_waiting_verifications"],
        guesses_per_channel=values["max_guesses_per_channel"],
        guesses_per_source=values["max_guesses_per_source"],
    )
