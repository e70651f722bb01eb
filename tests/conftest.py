"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import Process, running_service, running_shim

ROOT = Path(__file__).parent.parent
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2**31

# The tests start hundreds of processes, and compiling is half of what a start costs. Who wants no bytecode in the tree
# gets none: it is kept with what pytest keeps, for the workers of this run and for the next run.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".pytest_cache" / "bytecode"))

# Thousands of fsyncs are a fifth of the time on a slow disk, and prove nothing: what a power failure takes is tested by
# a file system of our own (tests/faults). `make test-full` has its data on the disk.
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# The blob that CI prints repeats a failure anywhere: @reproduce_failure.
settings.register_profile("short", deadline=None, max_examples=30, print_blob=bool(os.environ.get("CI")))
# By --hypothesis-profile=…: what make test-full takes, and a hunt.
settings.register_profile("full", deadline=None, max_examples=200, print_blob=True)
settings.register_profile("long", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("short")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: many tests wait for a time-out or a drain."""
    return (os.cpu_count() or 1) + 2


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL, so that it can be left to the longer run."""
    for item in items:
        if isinstance(item, pytest.Function) and ("postgres" in item.fixturenames or "postgres" in item.name):
            item.add_marker(pytest.mark.postgres)
