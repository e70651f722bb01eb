"""Ports for servers that stop and start again.

Who asks for port 0 may be given what such a server has just left, and in a whole run somebody is. These are below
the ports that are given away, and each process of pytest-xdist has its own.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

FIRST, LAST = 10_000, 32_000
"""Linux gives away 32768 to 60999, others from 49152 on."""


def reserve_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that nobody else takes in this run."""
    return next(port for port in _ours if _is_free(port))


def reserve_address() -> str:
    """Return 127.0.0.1 with such a port."""
    return f"127.0.0.1:{reserve_port()}"


def _walk_around() -> Iterator[int]:
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    each = (LAST - FIRST) // processes
    # Another run on this machine begins somewhere else.
    at = random.randrange(each)
    while True:
        yield FIRST + number * each + at
        at = (at + 1) % each


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ours = _walk_around()
