"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import Process, running_service, running_shim

settings.register_profile("developer", deadline=None, max_examples=50)
# The blob that CI prints repeats a failure anywhere: @reproduce_failure.
settings.register_profile("ci", deadline=None, max_examples=100, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture
def service_process(tmp_path: Path) -> Iterator[Process]:
    """A service of its own for one test, with an empty store."""
    with running_service(tmp_path) as process:
        yield process


@pytest.fixture
def shim_process(tmp_path: Path, service_process: Process) -> Iterator[Process]:
    """A shim of its own for one test, before `service_process`."""
    with running_shim(tmp_path, service=service_process.listen) as process:
        yield process
