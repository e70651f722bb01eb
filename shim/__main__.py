"""`mo-shim`: what the command runs.

Of ours and of others, only what reads the flags is loaded at first: then the workers are started, and load what they
need while this process, which becomes their supervisor, loads what it needs.
"""

import sys
from contextlib import ExitStack

from shim.errors import StartError
from shim.flags import command
from shim.memory import loading
from shim.privacy import keep_private
from shim.settings import Settings
from shim.worker_child import WorkerChild


def main() -> None:
    """Run the shim by its flags and variables."""
    command(_run, name="mo-shim")()


def _run(settings: Settings) -> None:
    keep_private()
    try:
        if settings.hand_over_only:
            sys.exit(_hand_over(settings))
        _supervise(settings)
    except StartError as error:
        sys.exit(f"mo-shim: {error}")


def _supervise(settings: Settings) -> None:
    with ExitStack() as stack:
        first = [WorkerChild.start(settings, slot) for slot in range(settings.workers)]
        for child in first:
            stack.callback(child.end)
        with loading():
            import asyncio

            from shim import logs
            from shim.supervisor import supervise
        logs.configure(settings.log_level)
        asyncio.run(supervise(settings, first))


def _hand_over(settings: Settings) -> int:
    import asyncio

    from shim import logs
    from shim.hand_over import hand_over_only

    logs.configure(settings.log_level)
    return asyncio.run(hand_over_only(settings))


if __name__ == "__main__":
    main()
