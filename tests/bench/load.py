"""Traffic: wrk, which posts messages as Twilio does, as fast as they are answered or at a fixed rate.

A fixed rate is an open loop: nobody waits with a message because the ones before it aren't answered yet, up to as
many as there are connections.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import shutil
import signal
import string
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PATH = "/social/on/whatsapp/twilio/message/C1"
_SCRIPT = Path(__file__).parent / "post.lua"
_TWILIO_SECONDS = 15
_STOP_SECONDS = 30.0
_CAPACITY_SECONDS = 4
_LONGER_THAN_ANY_RUN = "100h"
_names = map("".join, itertools.product(string.digits + string.ascii_lowercase, repeat=2))


class Manner(enum.StrEnum):
    """When a caller sends its credentials."""

    AT_ONCE = "at-once"
    CHALLENGED = "challenged"
    """As Twilio does: each message comes without them first, and once more with them."""
    NEVER = "never"


class Target(NamedTuple):
    """Where messages go, who sends them, and how."""

    address: str
    authorization: str
    manner: Manner = Manner.AT_ONCE
    channels: int = 0
    """How many channels they are spread over, named like the one but with "-0", "-1", … after it; 0: that one alone."""


class Sent(NamedTuple):
    """What the callers saw. Those of `late`, `latest_seconds` and `omitted` are 0 without a rate."""

    requests: int
    """How many were answered."""
    seconds: float
    refused: int
    """Answers of 400 and above."""
    broken: int
    """Connections that couldn't be made, or that broke."""
    timed_out: int
    """Requests that weren't answered within Twilio's 15 s."""
    p50_ms: float
    p99_ms: float
    p99_5_ms: float
    """Of all requests. Where every second one is a challenge: not less than the p99 of those with credentials."""
    max_ms: float
    late: int
    """How many were sent more than 0.1 s after they were due: all connections were busy, or the sender was."""
    latest_seconds: float
    omitted: int
    """How many were due and not sent."""
    challenged: int
    """How many were sent without credentials, and so had to be refused."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def taken(self) -> int:
        """How many messages were answered with a 2xx."""
        return self.requests - self.refused

    @property
    def bad(self) -> int:
        """What a caller would not count as taken. (Some that were challenged in the end had no answer any more.)"""
        return max(0, self.refused - self.challenged) + self.broken + self.timed_out


class Traffic:
    """Traffic that goes on; `sent` is there when its block has ended."""

    sent: Sent

    def __init__(self, pid: int) -> None:
        self.pid = pid


def new_run() -> str:
    """Return two characters that no other MessageSids of this process begin with (after the "SM")."""
    return next(_names)


def require_wrk() -> None:
    """End the program with a hint when wrk is not installed."""
    if not shutil.which("wrk"):
        sys.exit("bench: wrk is not installed; install it (Debian, Ubuntu: apt-get install wrk)")


def post_for(seconds: float, target: Target, *, connections: int) -> Sent:
    """Post as fast as the answers come, on so many connections."""
    command = _command(target, connections, f"{seconds:.0f}s")
    return _parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_capacity(target: Target) -> Sequence[float]:
    """Return how many messages a second are taken at most, several times, with wrk on the same machine."""
    rounds = [post_for(_CAPACITY_SECONDS, target, connections=64) for _ in range(4)]
    return [sent.taken / sent.seconds for sent in rounds[1:]]  # the first warms everything up


@contextlib.contextmanager
def posting(target: Target, *, connections: int, rate: float) -> Iterator[Traffic]:
    """Post that many messages a second while the block lasts."""
    requests = 2 * rate if target.manner is Manner.CHALLENGED else rate
    command = [*_command(target, connections, _LONGER_THAN_ANY_RUN), f"{requests:.3f}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        traffic = Traffic(process.pid)
        try:
            yield traffic
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=_STOP_SECONDS)
        finally:
            process.kill()
    traffic.sent = _parse(output)


def _command(target: Target, connections: int, duration: str) -> list[str]:
    # One thread: more of them would only take the cores from what is measured.
    shape = ["-t1", f"-c{connections}", f"-d{duration}", f"--timeout={_TWILIO_SECONDS}s"]
    where = f"http://{target.address}{PATH}"
    arguments = [target.authorization, new_run(), target.manner, str(target.channels)]
    return ["wrk", *shape, "-s", str(_SCRIPT), where, "--", *arguments]


def _parse(output: str) -> Sent:
    summary: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("JSON"))[5:])
    return Sent(**summary)
