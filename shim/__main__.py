"""`mo-shim`: what the command runs.

The first worker is started at once, and loads what it needs while this process reads the flags and loads what it needs
as its supervisor: nothing but what starts a worker is imported at the top.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shim.errors import StartError
from shim.memory import loading
from shim.worker_child import WorkerChild

if TYPE_CHECKING:
    from shim.settings import Settings


def main() -> None:
    """Run the shim by its flags and variables."""
    with ExitStack() as stack:
        first = WorkerChild.start()
        stack.callback(first.end)  # where nothing is to be served, or it can't be
        with loading():
            from shim.flags import command
        command(lambda settings: _run(settings, first, stack), name="mo-shim")()


def _run(settings: Settings, first: WorkerChild, stack: ExitStack) -> None:
    from shim import logs
    from shim.privacy import keep_private

    logs.configure(settings.log_level)
    keep_private()
    try:
        if settings.hand_over_only:
            first.end()
            sys.exit(_hand_over(settings))
        _supervise(settings, first, stack)
    except StartError as error:
        sys.exit(f"mo-shim: {error}")


def _supervise(settings: Settings, first: WorkerChild, stack: ExitStack) -> None:
    children = [first]
    for _ in range(settings.workers - 1):
        children.append(WorkerChild.start())
        stack.callback(children[-1].end)
    with loading():
        import asyncio

        from shim.supervisor import supervise
    asyncio.run(supervise(settings, children))


def _hand_over(settings: Settings) -> int:
    import asyncio

    from shim.hand_over import hand_over_only

    return asyncio.run(hand_over_only(settings))


if __name__ == "__main__":
    main()
