"""What a scenario is given, and what it gives.

A scenario is one module in `tests/bench/targets` or `tests/bench/long`: its docstring's first line says what it
measures, and its function `run(options)` returns the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Aimed:
    """A figure that one of the project's targets is about: its value in each round, and the aim."""

    target: int
    rounds: Sequence[float]
    bound: float
    is_least: bool = False
    """Whether the bound is the least that it may be, instead of the most."""
    digits: int = 2

    def __str__(self) -> str:
        return spread(self.rounds, self.digits)

    @property
    def aim(self) -> str:
        """The bound, as it is said."""
        return f"{'>=' if self.is_least else '<='} {self.bound:g}"

    @property
    def verdict(self) -> str:
        """Whether the median is within the bound, or how far it is away."""
        value = median(self.rounds)
        if value >= self.bound if self.is_least else value <= self.bound:
            return "met"
        return f"missed by {abs(value / self.bound - 1):.0%}"

    def to_json(self) -> Mapping[str, Any]:
        """Return what a program wants to know of it."""
        return {
            "target": self.target,
            "median": median(self.rounds),
            "rounds": list(self.rounds),
            "aim": self.aim,
            "verdict": self.verdict,
        }


Figure = int | float | str | Aimed
Figures = Mapping[str, Figure]
"""Each figure by its name, which says its unit."""


@dataclass(frozen=True)
class Options:
    """How to run."""

    folder: Path
    """Empty, and deleted afterwards."""
    seconds: float
    """How long each measurement lasts, or the main part of a long scenario."""
    rounds: int
    connections: int
    """Of whoever posts as fast as it is answered."""
    workers: int
    """Of the shim, where a scenario isn't about one."""
    tell: Callable[[str], None]
    """Shows a line of progress."""


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and minimum to maximum."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
