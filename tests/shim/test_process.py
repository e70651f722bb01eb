"""The process: flags, ports, readiness, and how it ends."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from shim.flags import command
from shim.settings import Address, Settings
from tests.processes import Process, running_shim
from tests.shim.caller import FORM, Caller, encode_request, post
from tests.shim.fake_service import FakeService
from tests.shim.running import OpenShim


def run_shim(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shim", *flags],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
async def process(service: FakeService, tmp_path: Path) -> AsyncIterator[Process]:
    async with running_shim(tmp_path, service=service.listen) as process:
        await asyncio.to_thread(process.wait_for_event, "directory_received")
        yield process


def read_settings(*flags: str, **variables: str) -> Settings:
    read: list[Settings] = []
    result = CliRunner().invoke(command(read.append, name="mo-shim"), flags, env=variables, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return read[0]


def test_the_defaults_are_those_of_the_house() -> None:
    settings = read_settings()
    assert (str(settings.listen), str(settings.admin_listen)) == ("127.0.0.1:8080", "127.0.0.1:8081")
    assert (settings.service, settings.state_dir) == ("ipv4:127.0.0.1:50051", Path("var/shim"))
    assert (settings.workers, settings.hand_over_only) == (1, False)
    assert (settings.connections.max_connections, settings.connections.max_body_bytes) == (4_000, 64 * 2**20)
    assert settings.max_journal_bytes == 10 * 2**30
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", settings.host_id)


def test_every_flag_is_a_variable() -> None:
    settings = read_settings("--reply", "twiml", MO_SHIM_LISTEN="[::1]:0", MO_SHIM_MAX_BATCH_MESSAGES="7")
    assert settings.listen == Address("::1", 0)
    assert str(settings.listen) == "[::1]:0"
    assert (settings.batches.max_messages, settings.reply) == (7, "twiml")


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("127.0.0.1:1", "ipv4:127.0.0.1:1"),
        ("127.0.0.1:1,127.0.0.2:2", "ipv4:127.0.0.1:1,127.0.0.2:2"),
        ("[::1]:1, [::2]:2", "ipv6:[::1]:1,[::2]:2"),
        ("mo-service:50051", "dns:///mo-service:50051"),
        ("dns:///mo-service:50051", "dns:///mo-service:50051"),
    ],
)
def test_the_service_may_be_named_in_several_ways(given: str, target: str) -> None:
    assert read_settings("--service", given).service == target


@pytest.mark.parametrize("given", ["", "x", "a:1,b:2", "127.0.0.1:1,[::1]:1", "127.0.0.1:1,", "127.0.0.1:70000"])
def test_a_service_that_cannot_be_is_refused(given: str) -> None:
    result = CliRunner().invoke(command(lambda _: None, name="mo-shim"), ["--service", given])
    assert result.exit_code == 2


def test_everything_that_is_wrong_is_named_at_once() -> None:
    ended = run_shim(
        *("--listen", "nowhere", "--bogus", "--reply=xml", "stray", "--workers=0", "--host-id=a b"),
        "--verification-threads",
        MO_SHIM_ADMIN_LISTEN="x:y",
    )
    assert ended.returncode == 2
    named = ("--listen", "--bogus", "--reply", "stray", "--workers", "--host-id", "--verification-threads")
    for fault in (*named, "--admin-listen"):
        assert fault in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_each_flag_and_its_default() -> None:
    ended = run_shim("--help")
    assert ended.returncode == 0
    assert "--state-dir" in ended.stdout
    assert "127.0.0.1:50051" in ended.stdout


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
def test_a_busy_port_is_one_clear_line(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--listen": 0, "--admin-listen": 0, flag: taken.getsockname()[1]}
        words = [word for name, port in ports.items() for word in (name, f"127.0.0.1:{port}")]
        ended = run_shim(*words, "--state-dir", str(tmp_path))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert flag in ended.stderr


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    anywhere = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    ended = run_shim(*anywhere, "--state-dir", str(tmp_path / "file" / "shim"))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "--state-dir" in ended.stderr


async def test_it_logs_json_lines_only(process: Process, service: FakeService) -> None:
    assert (await post(process.listen)).status == 204
    await service.stop()
    await asyncio.to_thread(process.wait_for_event, "directory_lost")
    assert (await post(process.listen)).status == 204
    await asyncio.to_thread(process.wait_for_event, "batch_failed")
    await asyncio.to_thread(process.wait_for_event, "hand_over_failed")
    events = [json.loads(line) for line in process.stderr.splitlines()]
    assert [event["event"] for event in events if event.get("worker") == 0] == [
        "directory_connected",
        "directory_received",
        "directory_lost",
        "batch_failed",
    ]
    assert [event["event"] for event in events if "worker" not in event] == [
        "worker_started",
        "listening",
        "journalling",
        "hand_over_failed",
    ]
    assert all(event["time"].endswith("Z") and event["level"] for event in process.events)


async def test_an_order_to_stop_lets_what_is_on_its_way_finish(process: Process, service: FakeService) -> None:
    service.may_answer.clear()
    async with Caller(process.listen) as caller:
        caller.send(encode_request())
        await service.arrived.wait()
        process.terminate()
        await asyncio.to_thread(process.wait_for_event, "worker_draining")
        readiness = await post(process.admin_listen, b"", method="GET", path="/readyz")
        assert (readiness.status, json.loads(readiness.body)["reasons"][0]["reason"]) == (503, "not_serving")
        service.may_answer.set()
        response = await caller.read()
        assert (response.status, response.headers["Connection"]) == (204, "close")
        assert await caller.is_closed()
    assert await asyncio.to_thread(process.wait) == 0


async def test_a_request_on_an_open_connection_is_answered_during_the_drain(open_shim_with: OpenShim) -> None:
    async with AsyncExitStack() as running:
        # In one loop with its callers, for which it waits no more than a second.
        shim = await running.enter_async_context(open_shim_with())
        async with Caller(shim.listen) as idle, Caller(shim.listen) as busy:
            assert (await idle.post()).status == 204
            assert (await busy.post()).status == 204
            draining = asyncio.create_task(running.aclose())
            await shim.events.wait_for("draining")
            response = await busy.post(FORM | {"MessageSid": "SM2"})
            assert (response.status, response.headers["Connection"]) == (204, "close")
            assert await busy.is_closed()
            assert await idle.is_closed()
            await draining


async def test_a_second_signal_ends_it_at_once(process: Process, service: FakeService) -> None:
    service.may_answer.clear()
    async with Caller(process.listen) as caller:
        caller.send(encode_request())
        await service.arrived.wait()
        process.terminate()
        await asyncio.to_thread(process.wait_for_event, "draining")
        process.terminate()
        assert await asyncio.to_thread(process.wait) == -signal.SIGTERM
    service.may_answer.set()


async def test_a_service_that_hangs_does_not_hold_up_the_end(process: Process, service: FakeService) -> None:
    service.may_answer.clear()
    async with Caller(process.listen) as caller:
        caller.send(encode_request())
        await service.arrived.wait()
        process.terminate()
        assert (await caller.read()).status == 204
        assert await asyncio.to_thread(process.wait) == 0
        remains = process.wait_for_event("journal_remains")
        assert remains["messages"] == 1
        assert remains["oldest"].endswith("Z")
    service.may_answer.set()
