"""How long the commands take to start: both processes until they are ready, and `mo --help`, beside `import grpc`.

Each starts anew every time, in turn, with its files in memory, its modules compiled, as an installed package has them,
and a store or a state that is there already. CPU is shown too: on a busy machine it is the steadier one.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.measuring import cpu_seconds
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

_IMPORT = "python -c 'import grpc'"
_SHIM, _SERVICE, _HELP = "mo-shim ready", "mo-service ready", "mo --help"
_BOUNDS = {_SHIM: 3.0, _SERVICE: 3.0, _HELP: 1.5}
_TIMES_A_ROUND = 2


class _Start(NamedTuple):
    """Wall and CPU milliseconds until it was ready, or over."""

    ms: float
    cpu_ms: float


def run(options: Options) -> Figures:
    """Start each of them twice a round."""
    folder = options.folder
    with running_service(folder) as service:
        starts: Mapping[str, Callable[[], _Start]] = {
            _IMPORT: lambda: _run([sys.executable, "-c", "import grpc"], folder),
            _SHIM: lambda: _until_ready(running_shim(folder, service=service.listen)),
            _SERVICE: lambda: _until_ready(running_service(folder, store=f"sqlite:///{folder / 'restarted.db'}")),
            _HELP: lambda: _run([sys.executable, "-m", "shim.cli", "--help"], folder),
        }
        found: dict[str, list[_Start]] = {name: [] for name in starts}
        for number in range(-1, options.rounds * _TIMES_A_ROUND):  # the first makes files and store
            options.tell(f"start {max(number, 0) + 1} of {options.rounds * _TIMES_A_ROUND}")
            for name, start in starts.items():
                each = start()
                found[name] += [each] if number >= 0 else []
    return _describe(found)


def _run(command: Sequence[str], folder: Path) -> _Start:
    before, started_at = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    seconds = time.perf_counter() - started_at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return _Start(seconds * 1e3, used * 1e3)


def _until_ready(process: Process) -> _Start:
    started_at = time.perf_counter()
    with process:
        return _Start((time.perf_counter() - started_at) * 1e3, cpu_seconds(process) * 1e3)


def _describe(found: Mapping[str, Sequence[_Start]]) -> Figures:
    plain = found[_IMPORT]
    figures: dict[str, Figure] = {}
    for name, bound in _BOUNDS.items():
        pairs = list(zip(found[name], plain, strict=True))
        figures[f"{name} / {_IMPORT}"] = Aimed(8, [ours.ms / theirs.ms for ours, theirs in pairs], bound)
        figures[f"{name}: CPU / its CPU"] = spread([ours.cpu_ms / theirs.cpu_ms for ours, theirs in pairs], 2)
    for name, starts in found.items():
        figures[f"{name}: ms"] = spread([each.ms for each in starts])
        figures[f"{name}: CPU ms"] = spread([each.cpu_ms for each in starts])
    return figures
