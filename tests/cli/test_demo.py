"""The launcher behind `make run`: what it prints works, and nothing is left behind however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ANY_PORTS = {
    f"MO_{process}_{flag}": "127.0.0.1:0" for process in ("SERVICE", "SHIM") for flag in ("LISTEN", "ADMIN_LISTEN")
}
START_SECONDS = 100.0


class Demo:
    """A running launcher; its output is read line by line."""

    def __init__(self, directory: Path, env: dict[str, str] = ANY_PORTS, *arguments: str) -> None:
        dropped = ("MO_", "PYTHONUNBUFFERED")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shim.demo", *arguments],
            cwd=directory,
            env=kept | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_until_ready(self) -> None:
        """Read up to the last line of the greeting."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self.process.terminate)
        watchdog.start()
        try:
            while not self.lines or "Ctrl-C" not in self.lines[-1]:
                line = self.process.stdout.readline()
                assert line, self.process.communicate()
                self.lines.append(line.strip())
        finally:
            watchdog.cancel()

    def line(self, start: str) -> str:
        (found,) = [line for line in self.lines if re.match(start, line)]
        return found

    def child(self, module: str) -> int:
        """The process id of the service or the shim."""
        return int(self.line(f"{module}: ").rpartition("process ")[2])

    def end(self) -> tuple[int, str]:
        """Wait for its end and that of its children, which share its output; returns exit code and stderr."""
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@contextlib.contextmanager
def running_demo(directory: Path, env: dict[str, str] = ANY_PORTS, *arguments: str) -> Iterator[Demo]:
    """A launcher that is ready. SIGTERM ends it, and is no failure; a test may end it before."""
    demo = Demo(directory, env, *arguments)
    children: list[int] = []
    try:
        demo.wait_until_ready()
        children = [demo.child("service"), demo.child("shim")]
        yield demo
        if demo.process.poll() is None:
            demo.process.terminate()
            assert demo.end() == (0, "")
    finally:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.end()
        left = [child for child in children if is_running(child)]
        for child in left:
            os.kill(child, signal.SIGKILL)
    assert left == []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logged(file: Path) -> Iterator[tuple[str, str]]:
    """Each event of a log with its time."""
    for line in file.read_text().splitlines():
        event = json.loads(line)
        yield event["event"], event["time"]


def run_shell(line: str, directory: Path) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=directory, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_the_printed_lines_post_a_message_and_read_it_and_do_so_after_a_restart(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        for _ in range(2):
            assert " 204 " in run_shell(demo.line("curl "), tmp_path)
        assert run_shell(demo.line(r"\S*mo |\S*python"), tmp_path).count('"ack_id"') == 2
    password = (tmp_path / "var" / "demo-password").read_text()
    assert stat.S_IMODE((tmp_path / "var" / "demo-password").stat().st_mode) == 0o600
    assert password not in "\n".join(demo.lines)
    with running_demo(tmp_path) as demo:
        assert " 204 " in run_shell(demo.line("curl "), tmp_path)
    assert (tmp_path / "var" / "demo-password").read_text() == password


def test_in_another_folder_even_with_spaces_a_lost_password_and_a_lost_store_are_made_good(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    for lost in ("nothing yet", "demo-password", "mo.db*"):
        for file in folder.glob(lost):
            file.unlink()
        with running_demo(tmp_path, ANY_PORTS, "--var-dir", str(folder)) as demo:
            assert " 204 " in run_shell(demo.line("curl "), tmp_path), lost
    assert not (tmp_path / "var").exists()


def test_ctrl_c_stops_both_in_order_and_is_no_failure(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == (0, "")
    times = {module: dict(logged(tmp_path / "var" / f"{module}.log")) for module in ("shim", "service")}
    assert times["shim"]["stopped"] <= times["service"]["draining"]


def test_a_second_signal_does_not_wait_for_a_process_that_hangs(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        os.kill(demo.child("shim"), signal.SIGSTOP)
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.stdout is not None
        assert demo.process.stdout.readline() == "stopping\n"
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == (130, "")


@pytest.mark.parametrize("module", ["service", "shim"])
def test_a_process_that_dies_ends_the_other_and_is_named(tmp_path: Path, module: str) -> None:
    with running_demo(tmp_path) as demo:
        os.kill(demo.child(module), signal.SIGKILL)
        code, stderr = demo.end()
        assert code == 1
        assert stderr.splitlines()[-1].startswith(f"mo demo: the {module} was killed by SIGKILL")


@pytest.mark.parametrize("variable", ["MO_SERVICE_LISTEN", "MO_SHIM_ADMIN_LISTEN"])
def test_a_busy_port_is_one_clear_line_and_leaves_nothing_running(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        demo = Demo(tmp_path, ANY_PORTS | {variable: address})
        code, stderr = demo.end()
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert address in stderr


def test_refused_variables_are_named_in_one_line(tmp_path: Path) -> None:
    code, stderr = Demo(tmp_path, ANY_PORTS | {"MO_SERVICE_LISTEN": "here", "MO_SERVICE_ADMIN_LISTEN": "there"}).end()
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert "here" in stderr
    assert "there" in stderr


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, stderr = Demo(tmp_path, ANY_PORTS, "--var-dir", "file").end()
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert "--var-dir" in stderr
