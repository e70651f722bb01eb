"""What a scenario of `make bench-long` is given, and what it gives.

A scenario is one module in `tests/bench/long`: its docstring's first line says what it measures, and its function
`run(options)` returns the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Figures = Mapping[str, int | float | str]
"""Each figure by its name, which says its unit."""


@dataclass(frozen=True)
class Options:
    """How to run."""

    folder: Path
    """Empty, and deleted afterwards."""
    seconds: float
    """How long the main part lasts: the outage, the flood."""
    workers: int
    tell: Callable[[str], None]
    """Shows a line of progress."""
