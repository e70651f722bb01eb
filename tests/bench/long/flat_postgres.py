"""What a message costs with 100,000 channels, 2,000,000 stored messages, or a backlog of 500,000, on PostgreSQL."""

from __future__ import annotations

from tests.bench.database import running_database
from tests.bench.fullness import compare_fills
from tests.bench.scenario import Figures, Options


def run(options: Options) -> Figures:
    """Compare databases of one server, whose CPU counts too."""
    with running_database() as database:
        return compare_fills(options, database.make, {"postgres": database.cpu_seconds})
