"""Generates the Python stubs of the contract: messages, gRPC and type stubs.

`make stubs`, `pip install` and the wheel all come through `generate`. Needs
grpcio-tools and mypy-protobuf, nothing else of the project.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
from importlib import resources
from pathlib import Path

PROTOS = Path(__file__).resolve().parent


def generate(out: Path = PROTOS) -> None:
    """Write the stubs of every proto file below `out`, as package `aicc.mo.v1`.

    A repeat overwrites them. Raises `RuntimeError` when protoc reports errors,
    which it prints itself, or when the type stub plugin is not installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    _run_protoc(
        f"--plugin=protoc-gen-mypy={_find_plugin('protoc-gen-mypy')}",
        f"--plugin=protoc-gen-mypy_grpc={_find_plugin('protoc-gen-mypy_grpc')}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet,only_async:{out}",
    )


def describe(out: Path) -> None:
    """Write one descriptor set with all that the contract imports, comments included.

    Any language's protobuf can load it without the proto files.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _run_protoc(f"--descriptor_set_out={out}", "--include_imports", "--include_source_info")


def _run_protoc(*outputs: str) -> None:
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    files = sorted(str(path) for path in PROTOS.glob("aicc/**/*.proto"))
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *files]):
        raise RuntimeError("protoc failed; its messages are above")


def _find_plugin(name: str) -> str:
    beside_python = Path(sysconfig.get_path("scripts"), name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not installed; install it with: pip install mypy-protobuf")
    return found


def main() -> None:
    """Run from the command line: see `--help`."""
    parser = argparse.ArgumentParser(description="Generate the stubs or the descriptor set of the contract.")
    parser.add_argument("--out", type=Path, default=PROTOS, help="folder for the stubs (default: beside the protos)")
    parser.add_argument("--descriptor", type=Path, metavar="FILE", help="write a descriptor set instead of stubs")
    arguments = parser.parse_args()
    try:
        describe(arguments.descriptor) if arguments.descriptor else generate(arguments.out)
    except RuntimeError as error:
        sys.exit(f"generate: {error}")


if __name__ == "__main__":
    main()
