"""Fuzzing at length, guided by coverage: each target in a process of its own, for so many seconds.

Needs atheris, which `make fuzz` installs; there are wheels for Linux.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.port import Port

_PORT = "port"
_CHECK_EVERY = 500


def main() -> None:
    """Run from the command line: see `--help`."""
    names = ["form", "head", "authorization", _PORT]
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(names)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--crashes", type=Path, default=Path("out/fuzz"), help="folder for inputs that fail")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.targets} - {*names}):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(names)}")
    if find_spec("atheris") is None:
        sys.exit("fuzz: atheris is not installed; install it (pip install 'atheris>=3'), or run: make fuzz")
    if arguments.here:
        _fuzz(arguments.targets[0], arguments.seconds, arguments.crashes)
    failed = [name for name in arguments.targets or names if _run(name, arguments) != 0]
    if failed:
        sys.exit(f"fuzz: failed: {', '.join(failed)}; the inputs are in {arguments.crashes}")


def _run(name: str, arguments: argparse.Namespace) -> int:
    print(f"fuzz: {name}, {arguments.seconds} s", flush=True)
    options = ["--here", "--seconds", str(arguments.seconds), "--crashes", str(arguments.crashes)]
    return subprocess.run([sys.executable, "-m", "tests.fuzz", name, *options], check=False).returncode


def _fuzz(name: str, seconds: int, crashes: Path) -> None:
    """Fuzz one target; doesn't return."""
    atheris: Any = import_module("atheris")  # has no types
    with atheris.instrument_imports(include=["shim", "tornado"]):
        from tests.fuzz.port import Port
        from tests.fuzz.seeds import SEEDS
        from tests.fuzz.targets import TARGETS

    target = _checked(Port()) if name == _PORT else TARGETS[name]
    crashes.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            Path(corpus, f"{number:03d}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=20"]
        atheris.Setup([sys.argv[0], corpus, *limits, f"-artifact_prefix={crashes}/{name}-"], target)
        atheris.Fuzz()


def _checked(port: Port) -> Callable[[bytes], None]:
    """Look now and then whether anything was left behind."""
    count = 0

    def read(sent: bytes) -> None:
        nonlocal count
        count += 1
        port.read_any_request(sent)
        if count % _CHECK_EVERY == 0:
            port.check()

    return read


if __name__ == "__main__":
    main()
