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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's files without anything generated."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in FILES:
        if ROOT.joinpath(name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*GENERATED))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def make(project: Path) -> Make:
    """`make` in `project`, with the Python and the tools that run this test instead of a new .venv."""
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "OUT", "TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    installed = ["-o", "tools", "-o", "ready", f"BIN={Path(sys.executable).parent}"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", *installed, *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run
