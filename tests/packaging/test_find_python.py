"""`.ci/find-python`: which Python makes .venv, and what is said where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packaging.conftest import ROOT

IS_OLD = 'case "$2" in *version_info*) exit 1;; esac'
HAS_NO_VENV = 'case "$2" in *venv*) exit 1;; esac'
IS_GOOD = "exit 0"


def find_python(folder: Path, **pythons: str) -> subprocess.CompletedProcess[str]:
    """Look among stand-ins that answer as given."""
    for name, script in pythons.items():
        folder.joinpath(name).write_text(f"#!/bin/sh\n{script}\n")
        folder.joinpath(name).chmod(0o755)
    command = [str(ROOT / ".ci/find-python"), *(str(folder / name) for name in pythons)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_first_that_is_new_enough_and_complete_is_taken(tmp_path: Path) -> None:
    found = find_python(tmp_path, broken="exit 127", old=IS_OLD, bare=HAS_NO_VENV, good=IS_GOOD, later=IS_GOOD)
    assert (found.returncode, found.stdout) == (0, f"{tmp_path}/good\n")


def test_only_old_ones_are_one_line_that_tells_what_is_needed(tmp_path: Path) -> None:
    found = find_python(tmp_path, old=IS_OLD, broken="exit 127")
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (1, "", 1)
    assert "Python 3.11 or newer is needed" in found.stderr


def test_a_missing_venv_module_is_one_line_that_tells_how_to_get_it(tmp_path: Path) -> None:
    found = find_python(tmp_path, old=IS_OLD, bare=HAS_NO_VENV)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (1, "", 1)
    assert "python3-venv" in found.stderr


def test_one_that_is_not_there_at_all_is_passed_over() -> None:
    found = subprocess.run([ROOT / ".ci/find-python", "no-such-python"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
