"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.bytecode import keep_bytecode
from tests.processes import Process, running_service, running_shim

ROOT = Path(__file__).parent.parent
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2**31
LONGEST = (
    "faults/test_accounting.py",
    "gateway/test_mutual_tls.py",
    "gateway/test_journey.py",
    "shim/test_supervisor.py",
    "service_properties/test_state_machine.py",
    "node/test_node_consumer.py",
    "cli/test_demo.py",
    "test_leaks.py",
    "service_properties/test_stress.py",
    "gateway/test_replicas.py",
)
"""Files whose tests take many seconds each, the slowest first."""

keep_bytecode()

# What a script starts in the background ignores Ctrl-C, and so does whatever that starts: commands that are tested too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Thousands of fsyncs are a fifth of the time on a slow disk, and prove nothing: what a power failure takes is tested by
# a file system of our own (tests/faults). `make test-full` has its data on the disk.
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# A machine that stalls is no fault of a test. The blob that CI prints repeats a failure anywhere: @reproduce_failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=bool(os.environ.get("CI")))
settings.register_profile("short", patient, max_examples=30)
# By --hypothesis-profile=…: what make test-full takes, and a hunt.
settings.register_profile("full", patient, max_examples=200, print_blob=True)
settings.register_profile("long", patient, max_examples=1_000, print_blob=True)
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


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark what needs PostgreSQL, and begin with what takes longest, so that no processor waits for it at the end."""
    for item in items:
        if isinstance(item, pytest.Function) and ("postgres" in item.fixturenames or "postgres" in item.name):
            item.add_marker(pytest.mark.postgres)
    yield  # those that nobody asked for are left out
    _begin_with_longest(items)


def _begin_with_longest(items: list[pytest.Item]) -> None:
    """Have each process of pytest-xdist, which gets an equal part of the tests, begin with some of the longest."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ranks = {ROOT / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    rest = iter([item for item in items if item.path not in ranks])
    ordered: list[pytest.Item] = []
    for number in range(processes):
        part = [item for item in items if item.path in ranks and ranks[item.path] % processes == number]
        ordered += [*part, *islice(rest, max(0, len(items) // processes - len(part)))]
    items[:] = [*ordered, *rest]
