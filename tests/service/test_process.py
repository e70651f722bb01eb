"""The service as a process: how it starts, refuses to start, says how it is, and ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.processes import Process


def start(folder: Path, *flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a service that is not expected to start."""
    free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    return subprocess.run(
        [sys.executable, "-m", "service", *free, *flags],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def get(address: str, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_every_bad_flag_and_variable_is_named_at_once(tmp_path: Path) -> None:
    flags = ["--listen", "nowhere", "--frobnicate", "--store", "mysql://x", "--argon2-passes", "1"]

    ended = start(tmp_path, *flags, env={"MO_SERVICE_ADMIN_LISTEN": "1:2:3"})

    assert ended.returncode == 2
    for fault in ("--listen", "--frobnicate", "--store", "--argon2-passes"):
        assert fault in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_bad_variable_is_refused_like_its_flag(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service"]
    env = {**os.environ, "MO_SERVICE_LISTEN": "nowhere", "MO_SERVICE_STORE": "x"}

    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert "nowhere" in ended.stderr
    assert "is no store" in ended.stderr


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
def test_a_busy_port_is_one_clear_line(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        ended = start(tmp_path, flag, f"127.0.0.1:{busy.getsockname()[1]}")

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert flag in line


def test_a_second_service_on_one_store_is_one_clear_line(service_process: Process, tmp_path: Path) -> None:
    ended = start(tmp_path, "--store", f"sqlite:///{tmp_path / 'mo.db'}")

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "another mo-service is using" in line


def test_a_second_service_on_one_port_is_refused(service_process: Process, tmp_path: Path) -> None:
    ended = start(tmp_path, "--listen", service_process.listen, "--store", f"sqlite:///{tmp_path / 'other.db'}")

    assert ended.returncode == 1


def test_the_private_port_tells_how_the_service_is(service_process: Process) -> None:
    status, metrics = get(service_process.admin_listen, "/metrics")

    assert status == 200
    assert b"mo_service_ingested_messages_total" in metrics
    assert get(service_process.admin_listen, "/healthz")[0] == 200
    status, body = get(service_process.admin_listen, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready", "reasons": []})
    assert get(service_process.admin_listen, "/nothing")[0] == 404


def test_what_it_keeps_is_for_its_user_alone(service_process: Process, tmp_path: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("mo.db*")} == {0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(service_process: Process, number: signal.Signals) -> None:
    os.kill(service_process.pid, number)

    service_process.wait_for_event("stopped")
    assert service_process.wait() == 0
    service_process.kill()


def test_every_line_that_it_logs_is_json(service_process: Process) -> None:
    service_process.terminate()
    service_process.wait()

    lines = [json.loads(line) for line in service_process.stderr.splitlines()]

    assert {"listening", "draining", "stopped"} <= {line["event"] for line in lines}


def test_a_service_whose_disk_is_full_says_so_and_is_well_when_there_is_room(service_process: Process) -> None:
    service_process.wait_for_event("serving")
    limit = (0, resource.RLIM_INFINITY)
    resource.prlimit(service_process.pid, resource.RLIMIT_FSIZE, limit)

    status, body = get(service_process.admin_listen, "/readyz")
    assert (status, json.loads(body)["status"]) == (503, "not ready")
    service_process.wait_for_event("not_serving")

    resource.prlimit(service_process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    service_process.wait_for_event("serving", occurrence=2)
    assert get(service_process.admin_listen, "/readyz")[0] == 200
