"""`make stubs`: what another Python project gets, and that a repeat costs nothing."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.conftest import Make

IMPORT_ALL = """
import sys
sys.path[:0] = sys.argv[1:]
from aicc.mo.v1 import channel_directory_pb2_grpc, message_archive_pb2_grpc, message_feed_pb2_grpc
from aicc.mo.v1 import message_ingest_pb2, message_ingest_pb2_grpc, message_pb2
message = message_pb2.MoMessage(channel_config_id="C1", body="")
assert message_ingest_pb2.IngestRequest(message=message).message.HasField("body")
print(message_pb2.__file__)
"""


def read_times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def elsewhere(shared_make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another project's folder with the stubs in it."""
    out = tmp_path_factory.mktemp("another") / "elsewhere"
    assert shared_make("stubs", f"OUT={out}").returncode == 0
    return out


def test_another_project_needs_only_the_folder_and_grpcio_and_protobuf(elsewhere: Path, tmp_path: Path) -> None:
    # -S leaves out what else is installed; these are what grpcio and protobuf consist of.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("grpc", "google", "typing_extensions.py"):
        libraries.joinpath(name).symlink_to(Path(sysconfig.get_path("platlib"), name))
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(elsewhere), str(libraries)]
    imported = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(imported) == elsewhere / "aicc/mo/v1/message_pb2.py"


def test_type_stubs_come_with_every_module(elsewhere: Path) -> None:
    modules = {path.stem for path in elsewhere.glob("aicc/mo/v1/*_pb2*.py")}
    assert modules
    assert {path.stem for path in elsewhere.glob("aicc/mo/v1/*_pb2*.pyi")} == modules


def test_a_repeat_does_nothing_and_says_so(shared_make: Make, elsewhere: Path) -> None:
    before = read_times(elsewhere)
    repeat = shared_make("stubs", f"OUT={elsewhere}")
    assert "nothing to do" in repeat.stdout
    assert read_times(elsewhere) == before


def test_stubs_land_beside_the_protos_by_default(make: Make, project: Path) -> None:
    assert "wrote" in make("stubs").stdout
    assert project.joinpath("protos/aicc/mo/v1/message_pb2.py").exists()
    assert "nothing to do" in make("stubs").stdout


def test_a_changed_proto_file_or_a_missing_stub_is_made_up_for(make: Make, project: Path) -> None:
    make("stubs")
    folder = project / "protos/aicc/mo/v1"
    folder.joinpath("message_pb2.py").unlink()
    assert "wrote" in make("stubs").stdout
    assert folder.joinpath("message_pb2.py").exists()
    folder.joinpath("new.proto").write_text('syntax = "proto3";\npackage aicc.mo.v1;\n')
    assert "wrote" in make("stubs").stdout
    assert folder.joinpath("new_pb2.py").exists()


def test_the_stubs_of_a_removed_proto_file_go_too(make: Make, project: Path) -> None:
    folder = project / "protos/aicc/mo/v1"
    proto = folder / "new.proto"
    proto.write_text('syntax = "proto3";\npackage aicc.mo.v1;\n')
    make("stubs")
    proto.unlink()
    make("stubs")
    assert list(folder.glob("new_pb2*")) == []


def test_a_proto_file_that_does_not_compile_is_named_and_nothing_is_written(make: Make, project: Path) -> None:
    project.joinpath("protos/aicc/mo/v1/broken.proto").write_text('syntax = "proto3";\nmessage Broken {')
    run = make("stubs")
    assert run.returncode != 0
    assert "broken.proto" in run.stderr
    assert "Traceback" not in run.stderr
    assert list(project.rglob("*_pb2*")) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(make: Make, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    run = make("stubs", f"OUT={occupied}")
    assert run.returncode != 0
    assert str(occupied) in run.stderr
    assert "Traceback" not in run.stderr
