"""What a message costs: shim and service beside a bare Tornado handler, alternating in one run; then how long it takes.

CPU time is the operating system's accounting of each process; only the ratios
mean anything, because machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench import delivery, guesses, routes
from tests.bench.load import Sent, Target, post_for, require_wrk
from tests.bench.measuring import cpu_seconds, create_channel, quiet_processes, spread, versions
from tests.processes import Process, running_service, running_shim

ROOT = Path(__file__).parent.parent.parent


class Round(NamedTuple):
    """One measurement: what was sent, and CPU microseconds a message of each process."""

    sent: Sent
    cpu: Sequence[float]


def measure(target: Target, processes: Sequence[Process], arguments: argparse.Namespace, *, run: str) -> Round:
    """Post messages for some seconds, each with a MessageSid of its own."""
    before = [cpu_seconds(process) for process in processes]
    sent = post_for(arguments.seconds, target, run=run, connections=arguments.connections)
    used = [cpu_seconds(process) - start for process, start in zip(processes, before, strict=True)]
    return Round(sent, [each / sent.requests * 1e6 for each in used])


def run_rounds(folder: Path, arguments: argparse.Namespace) -> dict[str, list[Round]]:
    """Alternate between the baseline and the gateway."""
    progress = sys.stderr
    with quiet_processes(), ExitStack() as stack:
        bare = stack.enter_context(Process("tests.bench.bare_tornado", {}, cwd=ROOT))
        service = stack.enter_context(running_service(folder))
        shim = stack.enter_context(running_shim(folder, service=service.listen))
        authorization = create_channel(service)
        rounds: dict[str, list[Round]] = {"bare": [], "gateway": []}
        for number in range(arguments.rounds):
            measured: list[tuple[str, str, Sequence[Process]]] = [
                ("bare", bare.listen, [bare]),
                ("gateway", shim.listen, [shim, service]),
            ]
            for name, address, processes in measured:
                target = Target(address, authorization)
                rounds[name].append(measure(target, processes, arguments, run=f"{number}{name[0]}"))
            progress.write(f"\rround {number + 1} of {arguments.rounds}")
        progress.write("\n")
        bare.terminate()
        return rounds


def summarise(rounds: dict[str, list[Round]]) -> dict[str, Any]:
    """Put the figures together that the table shows."""
    bare, ours = rounds["bare"], rounds["gateway"]
    pick: Callable[[int], list[float]] = lambda index: [entry.cpu[index] for entry in ours]  # noqa: E731
    latencies = [median(entry.sent.p50_ms for entry in ours), median(entry.sent.p99_ms for entry in ours)]
    return {
        "bare Tornado: messages/s": spread([entry.sent.rate for entry in bare]),
        "bare Tornado: CPU us/message": spread([entry.cpu[0] for entry in bare]),
        "gateway: messages/s": spread([entry.sent.rate for entry in ours]),
        "gateway: CPU us/message, shim": spread(pick(0)),
        "gateway: CPU us/message, service": spread(pick(1)),
        "gateway: CPU us/message, total": spread([sum(entry.cpu) for entry in ours]),
        "ratio of total CPU to bare": spread([sum(o.cpu) / b.cpu[0] for o, b in zip(ours, bare, strict=True)], 2),
        "ratio of messages/s to bare": spread([o.sent.rate / b.sent.rate for o, b in zip(ours, bare, strict=True)], 2),
        "gateway: latency p50, p99 ms": ", ".join(f"{latency:.1f}" for latency in latencies),
        "answers other than 2xx": sum(entry.sent.bad for entry in [*bare, *ours]),
    }


def main() -> None:
    """Run from the command line: see `--help`."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    require_wrk()
    with tempfile.TemporaryDirectory() as folder:
        figures = summarise(run_rounds(Path(folder), arguments))
    with tempfile.TemporaryDirectory() as folder:
        figures |= delivery.summarise(delivery.run_rounds(Path(folder), arguments))
    with tempfile.TemporaryDirectory() as folder:
        figures |= guesses.summarise(guesses.run_rounds(Path(folder), arguments))
    figures |= routes.run()
    if arguments.json:
        print(json.dumps({"figures": figures, "versions": versions(), "connections": arguments.connections}))
        return
    print(f"{arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s, median (min-max)")
    for name, value in figures.items():
        print(f"  {name:48} {value}")
    print("  " + ", ".join(f"{name} {number}" for name, number in versions().items()))


if __name__ == "__main__":
    main()
