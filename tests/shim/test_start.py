"""How the processes of a shim begin: what they load before they are ready, and who waits for whom."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry

from shim.errors import StartError
from shim.journal import Marks
from shim.journal.drainer import Drainer
from shim.metrics import JournalMetrics
from shim.settings import Address, Settings, from_json
from shim.worker_child import WorkerChild, wait_for_equipment
from shim.workers import Workers

ANYWHERE = Address("127.0.0.1", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(ANYWHERE, ANYWHERE, "ipv4:127.0.0.1:1", tmp_path / "shim")


@pytest.fixture
def child() -> Iterator[WorkerChild]:
    child = WorkerChild.start()
    yield child
    child.end()


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("shim.__main__", {"asyncio", "click", "shim.settings", "ssl"}),
        ("shim.flags", {"asyncio", "apsw", "argon2", "grpc", "google.protobuf", "prometheus_client", "ssl", "tornado"}),
        ("shim.supervisor", {"argon2", "cryptography", "grpc", "google.protobuf", "importlib.metadata", "rich"}),
        ("shim.worker_life", {"click", "cryptography", "importlib.metadata", "rich", "shim.journal.drainer"}),
    ],
)
def test_what_a_start_does_not_need_is_not_loaded(module: str, never: set[str]) -> None:
    code = f"import sys, {module}; print(sorted({never!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


OUTAGE = """
import asyncio, sys
from contextlib import AsyncExitStack
from pathlib import Path
from prometheus_client import CollectorRegistry
from shim.host import Host
from shim.journal import EntryKind, Journal
from shim.metrics import JournalMetrics
from shim.settings import from_json
from shim.state_dir import find_journal

async def main():
    settings, metrics = from_json(sys.argv[1]), JournalMetrics(CollectorRegistry())
    async with AsyncExitStack() as stack:
        host = Host(stack, settings, metrics)
        host.keep_reporting(stack, lambda: 1)
        while "shim.reports" not in sys.modules:
            await asyncio.sleep(0)
        before = {*sys.modules}
        journal = Journal(find_journal(settings), 0, host._marks, max_bytes=2**20, metrics=metrics)
        journal.append(EntryKind.MESSAGE, b"", lambda _: None)
        while not host._drainer.state.last_failure:
            await asyncio.sleep(0.01)
        print(host._drainer.state.last_failure, sorted({*sys.modules} - before))
        await journal.close()

asyncio.run(main())
"""
"""Journals a message while the service is away, and prints what was loaded for that."""


def test_an_outage_loads_nothing_that_could_be_of_another_version_by_then(settings: Settings) -> None:
    command = [sys.executable, "-c", OUTAGE, settings.to_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "UNAVAILABLE []\n"


async def test_a_drainer_of_an_empty_journal_opens_no_link(tmp_path: Path) -> None:
    def open_link() -> NoReturn:
        pytest.fail("a link is opened")

    with closing(Marks(tmp_path / "journal")) as marks:
        drainer = Drainer(tmp_path / "journal", marks, open_link, metrics=JournalMetrics(CollectorRegistry()))
        assert (await drainer.hand_over_all()).messages == 0


@pytest.mark.parametrize("flags", [["--help"], ["--workers", "0", "--nonsense"]])
def test_a_command_that_serves_nothing_leaves_no_process(flags: list[str]) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "shim", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, said = started.communicate(timeout=60)
    assert started.returncode == (0 if flags == ["--help"] else 2), said
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)


def test_a_worker_that_was_never_equipped_ends_with_its_supervisor(child: WorkerChild) -> None:
    child.line.close()
    assert child.process.wait(50) == 0


def test_a_worker_that_can_not_be_started_leaves_no_line_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        WorkerChild.start()  # a socket that is left open is a warning, which is an error here
    gc.collect()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_the_whole_group_ends_no_worker_that_loads(child: WorkerChild, number: signal.Signals) -> None:
    child.process.send_signal(number)
    child.line.close()
    assert child.process.wait(50) == 0  # by its supervisor's end, not by the signal


async def test_a_worker_that_died_as_it_loaded_ends_the_start(settings: Settings, child: WorkerChild) -> None:
    child.process.kill()
    child.process.wait()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        workers = Workers(settings, [listening], CollectorRegistry(), first=[child])
        with pytest.raises(StartError, match="exit code -9 as it started; see its log above"):
            async with workers.serving():
                pytest.fail("it serves")


async def test_a_worker_that_can_not_be_equipped_is_ended_and_ends_the_start(
    settings: Settings, child: WorkerChild
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.close()  # what is closed can't be passed on
    workers = Workers(settings, [listening], CollectorRegistry(), first=[child])
    async with asyncio.timeout(50):
        with pytest.raises(StartError, match="no worker could be started; see the log above"):
            async with workers.serving():
                pytest.fail("it serves")
    assert child.process.returncode == -signal.SIGKILL


async def test_workers_that_were_started_before_are_the_first_to_serve(settings: Settings, child: WorkerChild) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        workers = Workers(replace(settings, workers=2), [listening], CollectorRegistry(), first=[child])
        async with workers.serving(), asyncio.timeout(50):
            while workers.count < 2:
                await workers.refresh()
            assert child.process.poll() is None
        assert child.process.poll() == 0


def test_settings_and_sockets_reach_a_worker_whatever_their_size(settings: Settings) -> None:
    large = replace(settings, public_urls=tuple(f"https://{number}.example.com" for number in range(50_000)))
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listening:
        child = WorkerChild(subprocess.Popen(["true"]), ours)
        sending = threading.Thread(target=child.equip, args=(large, 3, [listening, listening]))
        sending.start()
        equipment = wait_for_equipment(theirs)
        sending.join()
        child.end()
        assert equipment
        assert (from_json(equipment.words["settings"]), equipment.words["slot"]) == (large, 3)
        for each in equipment.sockets:
            with closing(each):
                assert each.getsockname() == listening.getsockname()


def test_half_of_an_equipment_is_nothing(settings: Settings) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(settings.to_json().encode())
        assert wait_for_equipment(theirs) is None
