"""The bounds of what it takes to verify callers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VerificationLimits:
    """The bounds of a `Verifier`."""

    threads: int = 2
    """How many computations run at once."""
    max_waiting: int = 64
    """How many more may wait."""
    max_remembered_channels: int = 100_000
    """How many channels' credentials are remembered; those used longest ago are forgotten first."""
    guesses_per_channel: int = 30
    """How many wrong credentials a minute are computed for a channel."""
    guesses_per_source: int = 120
    """How many are for one address."""
