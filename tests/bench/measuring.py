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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

import apsw
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import Process

_PACKAGES = (
    *("tornado", "grpcio", "protobuf", "apsw", "argon2-cffi", "asyncpg"),
    *("fastapi", "starlette", "uvicorn", "httptools", "uvloop", "python-multipart", "sqlalchemy"),
)
_SCRAPE_SECONDS = 10.0


def cpu_seconds(process: Process) -> float:
    """User and system time of a process and its workers so far, all their threads together."""
    return tree_cpu_seconds(process.pid)


def tree_cpu_seconds(pid: int) -> float:
    """User and system time so far of a process, its children that live and those that it has waited for."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if folder.name.isdigit():
                fields = _read_stat(folder)
                children.setdefault(int(fields[1]), []).append(int(folder.name))
                used[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, found = 0.0, [pid]
    while found:
        parent = found.pop()
        total += used[parent]
        found += children.get(parent, [])
    return total


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process so far, all its threads together."""
    fields = _read_stat(Path(f"/proc/{pid}"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_stat(folder: Path) -> Sequence[str]:
    """Return the fields of `stat` after the name, which may hold anything."""
    return (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()


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


def versions() -> Mapping[str, str]:
    """Versions of what was measured, as far as it is installed, and what it ran on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    found["sqlite"] = apsw.sqlite_lib_version()
    found["wrk"] = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split()[1]
    return {**found, platform.system(): platform.release(), "cores": str(os.cpu_count()), "processor": _processor()}


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


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
