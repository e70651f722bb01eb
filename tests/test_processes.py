"""What the other tests rely on: processes start, are hurt and end as told, and none is left behind."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from tests.processes import Process

LISTENING = '{"event": "listening", "listen": "127.0.0.1:1", "admin_listen": "127.0.0.1:2"}'
OBEDIENT = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("no JSON", '{LISTENING}', sep="\\n", file=sys.stderr, flush=True)
while True:
    print('{{"event": "tick"}}', file=sys.stderr, flush=True)
    time.sleep(0.01)
"""


def write_program(directory: Path, code: str) -> Process:
    directory.joinpath("program.py").write_text(code)
    return Process("program", {}, cwd=directory, env={"PYTHONDONTWRITEBYTECODE": "1"})


def is_running(process: Process) -> bool:
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_block_begins_when_the_process_listens_and_ends_it_in_order(tmp_path: Path) -> None:
    with write_program(tmp_path, OBEDIENT) as process:
        assert (process.listen, process.admin_listen) == ("127.0.0.1:1", "127.0.0.1:2")
        assert is_running(process)
    assert process.wait() == 0


async def test_an_async_block_does_the_same(tmp_path: Path) -> None:
    async with write_program(tmp_path, OBEDIENT) as process:
        assert is_running(process)
    assert process.wait() == 0


def test_a_killed_process_is_gone_when_kill_returns(tmp_path: Path) -> None:
    with write_program(tmp_path, OBEDIENT) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL


def is_silent(process: Process) -> bool:
    try:
        process.wait_for_event("tick", occurrence=len(process.events) + 5, timeout=0.3)
    except AssertionError:
        return True
    return False


def test_a_frozen_process_does_nothing_until_it_is_thawed(tmp_path: Path) -> None:
    with write_program(tmp_path, OBEDIENT) as process:
        process.freeze()
        while not is_silent(process):
            continue  # what it said before is still being read
        process.thaw()
        process.wait_for_event("tick", occurrence=len(process.events) + 1)


def test_a_process_that_never_listens_fails_its_block_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the port is taken"), write_program(tmp_path, "exit('the port is taken')"):
        pytest.fail("the block was entered")


def test_a_process_that_ends_unasked_fails_its_block(tmp_path: Path) -> None:
    code = f"import sys; print('{LISTENING}', file=sys.stderr); sys.exit(3)"
    with pytest.raises(AssertionError, match="ended unasked with 3"), write_program(tmp_path, code) as process:
        process.wait()


def test_a_process_that_ends_badly_at_sigterm_fails_its_block(tmp_path: Path) -> None:
    badly = OBEDIENT.replace("sys.exit(0)", "sys.exit(5)")
    with pytest.raises(AssertionError, match="ended with 5 at SIGTERM"), write_program(tmp_path, badly):
        pass


def test_a_failing_block_leaves_no_process_behind(tmp_path: Path) -> None:
    process = write_program(tmp_path, OBEDIENT.replace("sys.exit(0)", "None"))
    with pytest.raises(ZeroDivisionError), process:
        _ = 1 / 0
    assert not is_running(process)


def test_children_end_with_their_process(tmp_path: Path) -> None:
    child = "import fcntl, time; lock = open('lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX); print(); time.sleep(999)"
    parent = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-uc", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print('{LISTENING}', file=sys.stderr, flush=True)
child.wait()
"""
    with pytest.raises(ZeroDivisionError), write_program(tmp_path, parent):
        _ = 1 / 0
    with tmp_path.joinpath("lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held for as long as the child lives
