"""Baselines as processes: what each of them says when it is ready, and how it is run."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.processes import Flag, Process

_ROOT = Path(__file__).parent.parent.parent.parent


@contextlib.contextmanager
def running_baseline(name: str, **flags: Flag) -> Iterator[Process]:
    """Run a module of this package while the block lasts."""
    with Process(f"tests.bench.baselines.{name}", flags, cwd=_ROOT) as process:
        yield process
        process.terminate()  # they drain nothing


def listen() -> socket.socket:
    """Return a listening socket on a free port."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def tell_ready(port: int) -> None:
    """Say that the port is served."""
    sys.stderr.write(json.dumps({"event": "listening", "listen": f"127.0.0.1:{port}", "admin_listen": ""}) + "\n")
    sys.stderr.flush()
