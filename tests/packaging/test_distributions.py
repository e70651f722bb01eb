"""What is shipped: the wheel that comes out of the source distribution, and the locked requirements."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.conftest import ROOT, copy_project, make_in

LOCKS = ("requirements.txt", "requirements-dev.txt")


@dataclass(frozen=True)
class Distributions:
    source: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    project = copy_project(tmp_path_factory.mktemp("built"))
    made = make_in(project)("dist")
    assert made.returncode == 0, made.stderr
    (source,), (wheel,) = project.glob("dist/*.tar.gz"), project.glob("dist/*.whl")
    return Distributions(source, wheel)


def test_the_wheel_made_of_the_source_distribution_runs_alone(built: Distributions, tmp_path: Path) -> None:
    with tarfile.open(built.source) as source:
        assert any(name.endswith("/aicc/mo/v1/message.proto") for name in source.getnames())
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")

    protos = [path.stem for path in ROOT.glob("protos/aicc/mo/v1/*.proto")]
    expected = {f"aicc/mo/v1/{name}_pb2{ending}" for name in protos for ending in (".py", ".pyi", "_grpc.py")}
    assert expected <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"aicc", "service", "shim"}
    sql = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("service/**/*.sql")}
    assert sql <= set(names)

    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import service, shim; from aicc.mo.v1 import message_ingest_pb2_grpc"
    )
    alone = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "installed"), sysconfig.get_path("platlib")]
    subprocess.run(alone, check=True)


def test_the_commands_are_installed_under_their_names(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (entry_points,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert set(re.findall(r"^(\S+) = ", entry_points, re.MULTILINE)) == {"mo", "mo-service", "mo-shim"}


@pytest.mark.parametrize("lock", LOCKS)
def test_locked_requirements_have_hashes_and_name_no_host(lock: str) -> None:
    text = ROOT.joinpath(lock).read_text()
    requirements = text.replace("\\\n", " ").splitlines()
    assert all("--hash=sha256:" in line for line in requirements if line and not line.startswith("#"))
    assert not re.search(r"://|--index|--find-links|--trusted-host", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_fit_what_the_project_declares(lock: str) -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + (project["dependency-groups"]["dev"] if "dev" in lock else [])
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", ROOT.joinpath(lock).read_text(), re.MULTILINE))
    for requirement in map(Requirement, declared):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in {lock}: run make lock"
        assert requirement.specifier.contains(version), (
            f"{lock} has {version} but {requirement} is wanted: run make lock"
        )


def test_both_locks_agree_on_every_version() -> None:
    runtime, everything = (
        set(re.findall(r"^\S+==\S+", ROOT.joinpath(lock).read_text(), re.MULTILINE)) for lock in LOCKS
    )
    assert runtime <= everything


def test_the_build_uses_the_locked_generator() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
    build = {requirement for requirement in project["build-system"]["requires"] if "==" in requirement}
    assert build <= set(project["dependency-groups"]["dev"])
