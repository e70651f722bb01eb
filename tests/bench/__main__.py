"""What a message costs: shim and service beside a bare Tornado handler, alternating in one run.

CPU time is the operating system's accounting of each process; only the ratios
mean anything, because machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.processes import Process, running_service, running_shim

FOLDER = Path(__file__).parent
PATH = "/social/on/whatsapp/twilio/message/C1"
PACKAGES = ("tornado", "grpcio", "protobuf", "apsw", "argon2-cffi")


class Round(NamedTuple):
    """One measurement: messages a second, CPU microseconds a message of each process, what failed."""

    rate: float
    cpu: Sequence[float]
    bad: int
    p50_ms: float
    p99_ms: float


def cpu_seconds(process: Process) -> float:
    """User and system time of a process and its workers so far, all their threads together."""
    stats = [Path(f"/proc/{pid}/stat").read_text("ascii") for pid in (process.pid, *process.worker_pids)]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def measure(
    address: str, processes: Sequence[Process], authorization: str, *, run: str, seconds: int, connections: int
) -> Round:
    """Post messages for some seconds, each with a MessageSid of its own."""
    before = [cpu_seconds(process) for process in processes]
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "-s",
        str(FOLDER / "post.lua"),
        f"http://{address}{PATH}",
    ]
    output = subprocess.run([*command, "--", authorization, run], capture_output=True, text=True, check=True).stdout
    summary = json.loads(next(line for line in output.splitlines() if line.startswith("JSON"))[5:])
    used = [cpu_seconds(process) - start for process, start in zip(processes, before, strict=True)]
    return Round(
        summary["requests"] / summary["seconds"],
        [each / summary["requests"] * 1e6 for each in used],
        summary["bad"],
        summary["p50_ms"],
        summary["p99_ms"],
    )


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


def run_rounds(folder: Path, arguments: argparse.Namespace) -> dict[str, list[Round]]:
    """Alternate between the baseline and the gateway."""
    with ExitStack() as stack:
        bare = stack.enter_context(Process("tests.bench.bare_tornado", {}, cwd=FOLDER.parent.parent))
        service = stack.enter_context(running_service(folder))
        shim = stack.enter_context(running_shim(folder, service=service.listen))
        authorization = create_channel(service)
        shim.wait_for_event("listening")
        rounds: dict[str, list[Round]] = {"bare": [], "gateway": []}
        for number in range(arguments.rounds):
            measured: list[tuple[str, str, Sequence[Process]]] = [
                ("bare", bare.listen, [bare]),
                ("gateway", shim.listen, [shim, service]),
            ]
            for name, address, processes in measured:
                rounds[name].append(
                    measure(
                        address,
                        processes,
                        authorization,
                        run=f"{number}{name[0]}",
                        seconds=arguments.seconds,
                        connections=arguments.connections,
                    )
                )
            sys.stderr.write(f"\rround {number + 1} of {arguments.rounds}")
        sys.stderr.write("\n")
        bare.terminate()
        return rounds


def summarise(rounds: dict[str, list[Round]]) -> dict[str, Any]:
    """Put the figures together that the table shows."""
    bare, ours = rounds["bare"], rounds["gateway"]
    pick: Callable[[int], list[float]] = lambda index: [entry.cpu[index] for entry in ours]  # noqa: E731
    return {
        "bare Tornado: messages/s": spread([entry.rate for entry in bare]),
        "bare Tornado: CPU us/message": spread([entry.cpu[0] for entry in bare]),
        "gateway: messages/s": spread([entry.rate for entry in ours]),
        "gateway: CPU us/message, shim": spread(pick(0)),
        "gateway: CPU us/message, service": spread(pick(1)),
        "gateway: CPU us/message, total": spread([sum(entry.cpu) for entry in ours]),
        "ratio of total CPU to bare": spread([sum(o.cpu) / b.cpu[0] for o, b in zip(ours, bare, strict=True)], 2),
        "ratio of messages/s to bare": spread([o.rate / b.rate for o, b in zip(ours, bare, strict=True)], 2),
        "gateway: latency p50, p99 ms": f"{median(e.p50_ms for e in ours):.1f}, {median(e.p99_ms for e in ours):.1f}",
        "answers other than 2xx": sum(entry.bad for entry in [*bare, *ours]),
    }


def main() -> None:
    """Run from the command line: see `--help`."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench: wrk is not installed; install it (Debian, Ubuntu: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        figures = summarise(run_rounds(Path(folder), arguments))
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    if arguments.json:
        print(json.dumps({"figures": figures, "versions": versions, "connections": arguments.connections}))
        return
    print(f"{arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s, median (min-max)")
    for name, value in figures.items():
        print(f"  {name:36} {value}")
    print("  " + ", ".join(f"{name} {number}" for name, number in versions.items()))


if __name__ == "__main__":
    main()
