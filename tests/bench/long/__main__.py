"""Long measurements of service and shim under trouble: every module beside this one is a scenario."""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from tests.bench.load import require_wrk
from tests.bench.measuring import quiet_processes, versions
from tests.bench.scenario import Figures, Options

_HERE = Path(__file__).parent


def main() -> None:
    """Run from the command line: see `--help`."""
    arguments = _parse_arguments()
    require_wrk()
    figures = {name: _run(name, arguments) for name in arguments.scenarios or _names()}
    if arguments.json:
        print(json.dumps({"figures": figures, "versions": versions(), "cores": os.cpu_count()}))
        return
    for name, found in figures.items():
        print(f"{name}: {_describe(name)}")
        for figure, value in found.items():
            print(f"  {figure:56} {value}")
    print(
        "  " + ", ".join(f"{name} {number}" for name, number in versions().items()), f"{os.cpu_count()} cores", sep=", "
    )


def _run(name: str, arguments: argparse.Namespace) -> Figures:
    progress, started_at = sys.stderr, time.monotonic()

    def tell(line: str) -> None:
        progress.write(f"{time.monotonic() - started_at:6.1f} s  {name}: {line}\n")
        progress.flush()

    with tempfile.TemporaryDirectory() as folder, quiet_processes():
        options = Options(Path(folder), arguments.seconds, arguments.workers, tell)
        figures: Figures = import_module(f"tests.bench.long.{name}").run(options)
        return figures


def _parse_arguments() -> argparse.Namespace:
    listed = "\n".join(f"  {name:10} {_describe(name)}" for name in _names())
    parser = argparse.ArgumentParser(
        prog="make bench-long",
        description=__doc__,
        epilog=f"scenarios:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which ones; all, if none is named")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the main part of each lasts")
    parser.add_argument("--workers", type=int, default=1, help="of the shim, where a scenario isn't about one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.scenarios} - {*_names()}):
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(_names())}")
    return arguments


def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules([str(_HERE)]) if module.name != "__main__")


def _describe(name: str) -> str:
    docstring = import_module(f"tests.bench.long.{name}").__doc__ or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    main()
