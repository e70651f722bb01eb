"""What processes use, count and say while they are measured."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.processes import Process

_PACKAGES = ("tornado", "grpcio", "protobuf", "apsw", "argon2-cffi")
_SCRAPE_SECONDS = 10.0


def cpu_seconds(process: Process) -> float:
    """User and system time of a process and its workers so far, all their threads together."""
    return sum(map(own_cpu_seconds, (process.pid, *process.worker_pids)))


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds() -> float:
    """CPU time that all processes of the machine together have had, and what a hypervisor took away."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text("ascii").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int, *, is_peak: bool = False) -> float:
    """Memory of a process that is in RAM now, or the most that ever was."""
    name = "VmHWM:" if is_peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


class MemorySamples:
    """The memory of a process, every second while the block lasts; kept in `mib`."""

    def __init__(self, pid: int, *, interval_seconds: float = 1.0) -> None:
        self.mib: list[float] = []
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.mib.append(resident_mib(self._pid))
            if self._is_over.wait(self._interval_seconds):
                return


class Counts:
    """What a process counted until now, as its private port says."""

    def __init__(self, process: Process) -> None:
        self.at = time.monotonic()
        with urlopen(f"http://{process.admin_listen}/metrics", timeout=_SCRAPE_SECONDS) as response:
            text = response.read().decode()
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> int:
        """Sum up the samples of that name which have these labels."""
        wanted = labels.items()
        return round(sum(each.value for each in self._samples if each.name == name and wanted <= each.labels.items()))


def create_channel(service: Process) -> str:
    """Create the channel that is posted to; return its `Authorization`."""
    command = [sys.executable, "-m", "shim.cli", "--service", service.listen, "channel", "create", "C1"]
    output = subprocess.run(
        [*command, "--user", "bench", "--generate-password", "--json"], capture_output=True, text=True, check=True
    ).stdout
    password = json.loads(output)["generated_password"]
    return "Basic " + b64encode(f"bench:{password}".encode()).decode()


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and minimum to maximum."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def versions() -> Mapping[str, str]:
    """Versions of what was measured."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


@contextlib.contextmanager
def quiet_processes() -> Iterator[None]:
    """Show what processes logged only when the block fails, so that the progress can be read."""
    log = io.StringIO()
    try:
        with contextlib.redirect_stderr(log):
            yield
    except BaseException:
        sys.stderr.write(log.getvalue())
        raise
