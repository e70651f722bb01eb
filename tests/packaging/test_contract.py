"""The contract as other teams get it: a descriptor set, and no change that breaks them unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from tests.packaging.conftest import Make

SERVICES = ("MessageIngest", "ChannelDirectory", "MessageFeed", "MessageArchive")


@pytest.fixture(scope="module")
def descriptors(shared_make: Make, tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    out = tmp_path_factory.mktemp("descriptors") / "out/contract.binpb"
    assert shared_make("descriptor", f"OUT={out}").returncode == 0
    return FileDescriptorSet.FromString(out.read_bytes())


def test_the_descriptor_set_is_complete_in_itself(descriptors: FileDescriptorSet) -> None:
    pool = DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    for service in SERVICES:
        assert pool.FindServiceByName(f"aicc.mo.v1.{service}").methods


def test_the_descriptor_set_carries_the_comments(descriptors: FileDescriptorSet) -> None:
    ours = [file for file in descriptors.file if file.package == "aicc.mo.v1"]
    assert ours
    for file in ours:
        assert any(location.leading_comments for location in file.source_code_info.location), file.name


def test_the_descriptor_set_has_a_place_of_its_own(make: Make, project: Path) -> None:
    assert "out/aicc-mo-v1.binpb" in make("descriptor").stdout
    assert project.joinpath("out/aicc-mo-v1.binpb").stat().st_size > 10_000


def test_a_break_is_refused_until_the_baseline_is_renewed(make: Make, project: Path) -> None:
    make("proto-baseline")
    assert make("proto-breaking").returncode == 0
    proto = project / "protos/aicc/mo/v1/message.proto"
    proto.write_text(proto.read_text().replace("string channel_config_id = 1;", "string channel_config_id = 99;"))
    refused = make("proto-breaking")
    assert refused.returncode != 0
    assert "channel_config_id" in refused.stdout
    make("proto-baseline")
    assert make("proto-breaking").returncode == 0


def test_an_addition_is_no_break(make: Make, project: Path) -> None:
    make("proto-baseline")
    proto = project / "protos/aicc/mo/v1/message.proto"
    proto.write_text(proto.read_text() + "\n// Something new.\nmessage Addition {}\n")
    assert make("proto-breaking").returncode == 0


def test_a_message_without_a_comment_is_refused(make: Make, project: Path) -> None:
    assert make("proto-lint").returncode == 0
    proto = project / "protos/aicc/mo/v1/message.proto"
    proto.write_text(proto.read_text() + "\nmessage Mute {}\n")
    refused = make("proto-lint")
    assert refused.returncode != 0
    assert "Mute" in refused.stdout
