"""The process of a worker, from its supervisor's side: started early, so that it loads while the supervisor does.

It takes no request and opens no file before it is handed the listening sockets: by then the journal is in order.
Knows no asyncio, nor anything else that would have to be loaded before the first of them starts.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Self

from shim.settings import Settings

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes of a group, and what the supervisor decides about for its workers."""

_MAX_SOCKETS = 253
"""How many Linux passes at a time."""


class WorkerChild:
    """A child process, and our end of the line to it.

    Started anew with `exec`, never forked: threads and gRPC don't survive a fork. The line is a socket pair; when the
    supervisor is gone, however that came, the worker reads its end and stops by itself.
    """

    def __init__(self, slot: int, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.slot = slot
        self.process = process
        self.line = line

    @classmethod
    def start(cls, settings: Settings, slot: int) -> Self:
        """Start it. It loads its modules, then waits for `hand_over`."""
        ours, theirs = socket.socketpair()
        # A signal to the whole group (Ctrl-C, a terminal that closes) waits until the worker can take it.
        with theirs, _signals_held_back():
            given = {"settings": settings.to_json(), "slot": slot, "line": theirs.fileno()}
            process = subprocess.Popen(  # noqa: S603 - nothing in it is a caller's
                [sys.executable, "-m", "shim.worker_main", json.dumps(given)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return cls(slot, process, ours)

    def hand_over(self, sockets: Sequence[socket.socket]) -> None:
        """Let it take requests on these sockets; does nothing when it has ended."""
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self.line, [b"\n"], [each.fileno() for each in sockets])

    def end(self) -> None:
        """End it at once, and wait for that; does nothing when it has ended."""
        self.process.kill()
        self.process.wait()
        self.line.close()


def wait_for_sockets(line: socket.socket) -> list[socket.socket]:
    """Return what the supervisor hands over to this worker; nothing when the supervisor is gone."""
    _, descriptors, _, _ = socket.recv_fds(line, 1, _MAX_SOCKETS)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let what is started here begin with these signals blocked: a mask outlives `exec`, a handler doesn't."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
