"""Runs a process until it crashes where it was told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.crash_vfs import VARIABLE, Crash


def run_until_it_crashes(module: str, path: Path, crash: Crash, *, first: int = 0) -> list[int]:
    """Return the numbers, from `first` on, that `python -m module path` said are on disk before it died."""
    armed = path.with_name("crash")
    with subprocess.Popen(
        [sys.executable, "-m", module, str(path)],
        env=os.environ | {VARIABLE: str(armed)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        crash.arm(armed)
        process.stdin.write(f"{first}\n")
        process.stdin.flush()
        answered = [int(line) for line in process.stdout]
    assert process.returncode == -signal.SIGKILL
    assert not armed.exists()
    return answered
