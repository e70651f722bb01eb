"""How far a long command is, for a person who watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str, total: int, *, is_wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr; yields what moves it on by a number."""
    if not is_wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # rich would take standard output for the terminal, too.
    with Progress(console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
