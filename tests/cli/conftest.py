"""One real service for each test module, and `mo` before it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cli.commands import CommandLine, Mo
from tests.processes import Process, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running_service(tmp_path_factory.mktemp("service")) as process:
        yield process


@pytest.fixture(scope="module")
def mo(service: Process) -> Mo:
    return Mo(service.listen)


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in list(os.environ):
        if name.startswith("MO_"):
            monkeypatch.delenv(name)
    return CommandLine(capsys)
