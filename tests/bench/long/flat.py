"""What a message costs with 100,000 channels, 2,000,000 stored messages, or a backlog of 500,000, on SQLite."""

from __future__ import annotations

from tests.bench.fullness import compare_fills
from tests.bench.scenario import Figures, Options


def run(options: Options) -> Figures:
    """Compare stores in files of their own."""
    return compare_fills(options, lambda name: f"sqlite:///{options.folder / name}.db")
