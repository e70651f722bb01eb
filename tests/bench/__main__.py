"""What the gateway costs and how fast it is, beside what others would build; every ratio is of one run.

CPU time is the operating system's accounting of every process involved. Only ratios mean much: machines differ, and
are noisy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pkgutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tests.bench.database import postgres_version
from tests.bench.load import require_wrk
from tests.bench.measuring import quiet_processes, versions
from tests.bench.scenario import Aimed, Figures, Options
from tests.bytecode import keep_bytecode

_HERE = Path(__file__).parent
_OF_BASELINES = ("fastapi", "uvicorn", "httptools", "uvloop", "python_multipart", "sqlalchemy")


class _Kind(NamedTuple):
    """One of the three commands."""

    command: str
    folder: str
    function: str
    seconds: float
    rounds: int


_KINDS = {
    "targets": _Kind("make bench", "targets", "run", seconds=3, rounds=5),
    "quick": _Kind("make bench-quick", "targets", "run_quickly", seconds=3, rounds=4),
    "long": _Kind("make bench-long", "long", "run", seconds=60, rounds=5),
}


def main() -> None:
    """Run from the command line: see `--help`."""
    arguments = _parse_arguments()
    kind = _KINDS[arguments.kind]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it, what it started ends too
    keep_bytecode()
    _require_all()
    figures: dict[str, Figures] = {}
    try:
        for name in arguments.scenarios or _names(kind):
            figures[name] = _run(kind, name, arguments)
    finally:  # what was measured is shown, also when something broke or somebody has enough
        _show(kind, figures, arguments)


def _show(kind: _Kind, figures: Mapping[str, Figures], arguments: argparse.Namespace) -> None:
    found_versions = {**versions(), "postgresql": postgres_version()}
    if arguments.json:
        print(json.dumps(_to_json(figures, found_versions, arguments)))
        return
    _print_table(kind, figures)
    shape = f"{arguments.rounds} rounds of {arguments.seconds:g} s, {arguments.connections} connections"
    print(f"\n{shape}; median (min-max)")
    print(", ".join(f"{name} {number}" for name, number in found_versions.items()))


def _run(kind: _Kind, name: str, arguments: argparse.Namespace) -> Figures:
    progress, started_at = sys.stderr, time.monotonic()

    def tell(line: str) -> None:
        progress.write(f"{time.monotonic() - started_at:6.1f} s  {name}: {line}\n")
        progress.flush()

    with tempfile.TemporaryDirectory() as folder, quiet_processes():
        run: Callable[[Options], Figures] = getattr(_import(kind, name), kind.function)
        figures = run(
            Options(
                Path(folder),
                seconds=arguments.seconds,
                rounds=arguments.rounds,
                connections=arguments.connections,
                workers=arguments.workers,
                tell=tell,
            )
        )
    tell("done")
    return figures


def _print_table(kind: _Kind, figures: Mapping[str, Figures]) -> None:
    aimed = [
        (name, figure) for found in figures.values() for name, figure in found.items() if isinstance(figure, Aimed)
    ]
    if aimed:
        print(f"{'target':8}{'figure':52}{'measured':26}{'aim':12}")
    for name, figure in sorted(aimed, key=lambda pair: pair[1].target):
        print(f"{figure.target:>4}    {name:52}{figure!s:26}{figure.aim:12}{figure.verdict}")
    for scenario, found in figures.items():
        print(f"\n{scenario}: {_describe(kind, scenario)}")
        for name, value in found.items():
            print(f"  {name:64} {value}")


def _to_json(
    figures: Mapping[str, Figures], found_versions: Mapping[str, str], arguments: argparse.Namespace
) -> Mapping[str, object]:
    plain = {
        scenario: {name: value.to_json() if isinstance(value, Aimed) else value for name, value in found.items()}
        for scenario, found in figures.items()
    }
    settings = {name: value for name, value in vars(arguments).items() if name not in {"json", "scenarios"}}
    return {"figures": plain, "versions": found_versions, "settings": settings}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, kind in _KINDS.items():
        _add_flags(
            kinds.add_parser(name, prog=kind.command, formatter_class=argparse.RawDescriptionHelpFormatter), kind
        )
    arguments = parser.parse_args()
    names = _names(_KINDS[arguments.kind])
    if unknown := sorted({*arguments.scenarios} - {*names}):
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(names)}")
    return arguments


def _add_flags(parser: argparse.ArgumentParser, kind: _Kind) -> None:
    parser.description = __doc__
    parser.epilog = "scenarios:\n" + "\n".join(f"  {name:10} {_describe(kind, name)}" for name in _names(kind))
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which ones; all, if none is named")
    parser.add_argument("--seconds", type=float, default=kind.seconds, help="of a measurement, or of its main part")
    parser.add_argument("--rounds", type=int, default=kind.rounds, help="of each measurement that is repeated")
    parser.add_argument("--connections", type=int, default=64, help="of who posts as fast as it is answered")
    parser.add_argument("--workers", type=int, default=1, help="of the shim, where a scenario isn't about one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _require_all() -> None:
    """End the program with a hint when something is missing."""
    require_wrk()
    postgres_version()
    if missing := [name for name in _OF_BASELINES if not importlib.util.find_spec(name)]:
        sys.exit(f"bench: {', '.join(missing)} is not installed; run: pip install -r requirements-bench.txt")


def _names(kind: _Kind) -> list[str]:
    names = sorted(module.name for module in pkgutil.iter_modules([str(_HERE / kind.folder)]))
    return [name for name in names if hasattr(_import(kind, name), kind.function)]


def _describe(kind: _Kind, name: str) -> str:
    return (_import(kind, name).__doc__ or "").partition("\n")[0]


def _import(kind: _Kind, name: str) -> object:
    return import_module(f"tests.bench.{kind.folder}.{name}")


if __name__ == "__main__":
    main()
