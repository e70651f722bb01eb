"""The process of a worker, from its supervisor's side: it loads while the supervisor does, and then waits.

Until the supervisor equips it with settings and listening sockets it takes no request and opens no file. Knows no
asyncio, nor anything else that would have to be loaded before the first of them is started.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from shim.settings import Settings

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes of a group, and what the supervisor decides about for its workers."""

_MAX_SOCKETS = 253
"""How many Linux passes at a time."""
_READ_BYTES = 2**16


class WorkerChild:
    """A child process, and our end of the line to it.

    Started anew with `exec`, never forked: threads and gRPC don't survive a fork. The line is a socket pair; when the
    supervisor is gone, however that came, the worker reads its end and stops by itself.
    """

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.process = process
        self.line = line

    @classmethod
    def start(cls) -> Self:
        """Start it. It loads its modules, then waits for `equip`.

        Raises `OSError` when the system lets no further process or line begin.
        """
        ours, theirs = socket.socketpair()
        # A signal to the whole group (Ctrl-C, a terminal that closes) waits until the worker can take it.
        with contextlib.ExitStack() as on_failure, theirs, _signals_held_back():
            on_failure.callback(ours.close)
            process = subprocess.Popen(  # noqa: S603 - nothing in it comes from anybody else
                [sys.executable, "-m", "shim.worker_main", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
            on_failure.pop_all()
        return cls(process, ours)

    def equip(self, settings: Settings, slot: int, sockets: Sequence[socket.socket]) -> None:
        """Let it take requests on these sockets; does nothing when it has ended.

        Raises `OSError` when they can't be passed on.
        """
        words = json.dumps({"settings": settings.to_json(), "slot": slot}).encode() + b"\n"
        with contextlib.suppress(ConnectionError):
            sent = socket.send_fds(self.line, [words], [each.fileno() for each in sockets])
            self.line.sendall(words[sent:])

    def end(self) -> None:
        """End it at once, and wait for that; does nothing when it has ended."""
        self.process.kill()
        self.process.wait()
        self.line.close()


class Equipment(NamedTuple):
    """What a worker needs to take requests."""

    words: dict[str, Any]
    sockets: Sequence[socket.socket]


def wait_for_equipment(line: socket.socket) -> Equipment | None:
    """Return what the supervisor equips this worker with; None when the supervisor is gone."""
    words, descriptors, _, _ = socket.recv_fds(line, _READ_BYTES, _MAX_SOCKETS)
    while not words.endswith(b"\n"):
        more = line.recv(_READ_BYTES)
        if not more:
            return None
        words += more
    return Equipment(json.loads(words), [socket.socket(fileno=descriptor) for descriptor in descriptors])


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let what is started here begin with these signals blocked: a mask outlives `exec`, a handler doesn't."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
