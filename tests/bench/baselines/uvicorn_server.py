"""Uvicorn as it is run in production: httptools, uvloop, and no access log."""

from __future__ import annotations

import asyncio
import contextlib

import uvicorn
import uvloop
from fastapi import FastAPI

from tests.bench.baselines.running import listen, tell_ready


def serve(app: FastAPI) -> None:
    """Serve on a free port until SIGTERM."""
    with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app))


async def _serve(app: FastAPI) -> None:
    socket = listen()
    config = uvicorn.Config(app, http="httptools", loop="uvloop", log_level="warning", access_log=False)
    serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[socket]))
    # The socket listens already: whoever connects before uvicorn accepts only waits.
    tell_ready(socket.getsockname()[1])
    await serving
