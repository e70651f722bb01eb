"""Generates the Python stubs of the contract: messages, gRPC and type stubs.

`make stubs`, `pip install` and the wheel all come through `generate`. Needs
grpcio-tools and mypy-protobuf, nothing else of the project.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import sysconfig
import tempfile
from importlib import metadata, resources
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
GENERATORS = ("grpcio-tools", "mypy-protobuf")


def generate(out: Path = PROTOS) -> bool:
    """Write the stubs of every proto file below `out`, as package `aicc.mo.v1`.

    Does nothing, and returns False, when `out` has them already: made of the
    same proto files by the same generators, and none has been removed. Each file
    is replaced whole, so a program that starts meanwhile never reads half a one.

    Raises `RuntimeError` when protoc reports errors, which it prints itself, or
    when a generator is not installed.
    """
    record = out / "aicc/mo/v1/.generated"
    fingerprint = _take_fingerprint()
    made_of, *names = record.read_text().splitlines() if record.exists() else [""]
    if made_of == fingerprint and all(Path(out, name).exists() for name in names):
        return False
    record.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=record.parent, prefix=".new-") as new:
        _run_protoc(
            f"--plugin=protoc-gen-mypy={_find_plugin('protoc-gen-mypy')}",
            f"--plugin=protoc-gen-mypy_grpc={_find_plugin('protoc-gen-mypy_grpc')}",
            f"--python_out={new}",
            f"--grpc_python_out={new}",
            f"--mypy_out=quiet:{new}",
            f"--mypy_grpc_out=quiet,only_async:{new}",
        )
        made = _move_files(Path(new), out)
    for stale in set(names) - set(made):
        Path(out, stale).unlink(missing_ok=True)
    record.write_text("\n".join([fingerprint, *made]) + "\n")
    return True


def describe(out: Path) -> None:
    """Write one descriptor set with all that the contract imports, comments included.

    Any language's protobuf can load it without the proto files.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _run_protoc(f"--descriptor_set_out={out}", "--include_imports", "--include_source_info")


def _find_protos() -> list[Path]:
    return sorted(PROTOS.glob("aicc/**/*.proto"))


def _take_fingerprint() -> str:
    """Sum up all that decides what is generated: this file, the proto files and the generators' versions."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *_find_protos()]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    for generator in GENERATORS:
        digest.update(f"{generator} {_find_version(generator)}\n".encode())
    return digest.hexdigest()


def _find_version(generator: str) -> str:
    try:
        return metadata.version(generator)
    except metadata.PackageNotFoundError:
        raise RuntimeError(f"{generator} is not installed; install it with: pip install {generator}") from None


def _find_plugin(name: str) -> str:
    beside_python = Path(sysconfig.get_path("scripts"), name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not on the PATH; install it with: pip install mypy-protobuf")
    return found


def _run_protoc(*outputs: str) -> None:
    from grpc_tools import protoc  # imported late: nothing to generate costs nothing

    well_known = resources.files("grpc_tools") / "_proto"
    files = map(str, _find_protos())
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *files]):
        raise RuntimeError("protoc failed; its messages are above")


def _move_files(source: Path, target: Path) -> list[str]:
    """Move every file to its place below `target` and return their relative names."""
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    for name in names:
        Path(target, name).parent.mkdir(parents=True, exist_ok=True)
        Path(source, name).replace(Path(target, name))
    return names


def main() -> None:
    """Run from the command line: see `--help`."""
    parser = argparse.ArgumentParser(description="Generate the stubs or the descriptor set of the contract.")
    parser.add_argument("--out", type=Path, default=PROTOS, help="folder for the stubs (default: beside the protos)")
    parser.add_argument("--descriptor", type=Path, metavar="FILE", help="write a descriptor set instead of stubs")
    parser.add_argument("--quiet", action="store_true", help="say nothing when there was nothing to do")
    arguments = parser.parse_args()
    try:
        _generate_as_asked(arguments.out, arguments.descriptor, quiet=arguments.quiet)
    except (RuntimeError, OSError) as error:
        sys.exit(f"generate: {error}")


def _generate_as_asked(out: Path, descriptor: Path | None, *, quiet: bool) -> None:
    if descriptor:
        describe(descriptor)
        print(f"wrote {descriptor}")
    elif generate(out):
        print(f"wrote the stubs of aicc.mo.v1 below {out}")
    elif not quiet:
        print(f"nothing to do: the stubs below {out} are up to date")


if __name__ == "__main__":
    main()
