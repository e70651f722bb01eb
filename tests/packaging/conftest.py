"""A copy of the project as git has it, and `make` in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = (".gitignore", "Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "protos", "shim", "service")
GENERATED = ("*_pb2*", ".generated", ".new-*", "__pycache__")

Make = Callable[..., subprocess.CompletedProcess[str]]


def copy_project(folder: Path) -> Path:
    """Copy the project's files without anything generated."""
    copy = folder / "project"
    copy.mkdir()
    for name in FILES:
        if ROOT.joinpath(name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*GENERATED))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


def make_in(project: Path) -> Make:
    """`make` in `project`, with the Python and the tools that run this test instead of a new .venv."""
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "OUT", "TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # nobody runs the copy again
    installed = ["-o", "tools", "-o", "ready", f"BIN={Path(sys.executable).parent}"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", *installed, *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy for one test, which may change it."""
    return copy_project(tmp_path)


@pytest.fixture
def make(project: Path) -> Make:
    return make_in(project)


@pytest.fixture(scope="module")
def shared_make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make` in a copy that a module's tests share: what it makes must go elsewhere."""
    return make_in(copy_project(tmp_path_factory.mktemp("shared")))
