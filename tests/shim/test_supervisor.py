"""The supervisor and its workers as processes: what callers and operators see of their life and death."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import Event, Process, running_shim
from tests.shim.caller import FORM, Caller, encode_request, post
from tests.shim.fake_service import FakeService
from tests.shim.traffic import traffic


@asynccontextmanager
async def running_workers(service: FakeService, folder: Path, **flags: Any) -> AsyncIterator[Process]:
    """A shim whose workers all serve and have the directory."""
    async with running_shim(folder, service=service.listen, **flags) as shim:
        workers = flags.get("workers", 1)
        await wait_for(shim, "worker_started", workers)
        await wait_for(shim, "directory_connected", workers)
        yield shim


async def wait_for(shim: Process, name: str, occurrence: int = 1) -> Event:
    return await asyncio.to_thread(shim.wait_for_event, name, occurrence=occurrence)


async def get(shim: Process, path: str) -> bytes:
    return (await post(shim.admin_listen, b"", method="GET", path=path, authorization=None)).body


async def metric(shim: Process, name: str, **labels: str) -> float:
    families = text_string_to_metric_families((await get(shim, "/metrics")).decode())
    (value,) = [s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels)]
    return value


async def have_ended(pids: Iterable[int], *, timeout: float = 50) -> bool:
    """Whether they end soon; they are no children of ours, so their parent's end says nothing about theirs."""
    return all([await asyncio.to_thread(_ends, pid, timeout) for pid in pids])


def _ends(pid: int, timeout: float) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], timeout)[0])
    finally:
        os.close(process)


async def test_workers_share_the_socket(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim:
        assert len(shim.worker_pids) == 2
        readiness = json.loads(await get(shim, "/readyz"))
        assert readiness == {"status": "ready", "reasons": []}
        frozen = shim.worker_pids[0]
        os.kill(frozen, signal.SIGSTOP)
        # A frozen worker keeps none of the new connections for itself.
        for number in range(20):
            assert (await post(shim.listen, FORM | {"MessageSid": f"SM{number}"})).status == 204
        with contextlib.suppress(ProcessLookupError):  # it is replaced by now, if that took long
            os.kill(frozen, signal.SIGCONT)


async def test_a_worker_that_dies_is_replaced_while_requests_go_on(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim, traffic(shim.listen) as callers:
        await callers.wait_for(100)
        victim, survivor = shim.worker_pids
        os.kill(victim, signal.SIGKILL)
        died = await wait_for(shim, "worker_died")
        assert (died["pid"], died["exit_code"]) == (victim, -signal.SIGKILL)
        await wait_for(shim, "worker_started", 3)
        assert shim.worker_pids[0] == survivor
        # Those whose connection died with it have noticed by now; nobody else may.
        await callers.wait_for(100)
        faults = callers.faults.total()
        await callers.wait_for(200)
        assert callers.faults.total() == faults <= 8
        assert set(callers.statuses) == {204}
    assert callers.accepted <= {message.message_sid for message in service.messages}


async def test_counters_never_run_backwards_when_a_worker_dies(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim:
        for number in range(10):
            await post(shim.listen, FORM | {"MessageSid": f"SM{number}"})
        assert await metric(shim, "mo_webhook_answers_total", answer="accepted") == 10
        assert await metric(shim, "mo_webhook_message_seconds_count") == 10
        for number in (1, 2):
            os.kill(shim.worker_pids[0], signal.SIGKILL)
            await wait_for(shim, "worker_died", number)
            assert await metric(shim, "mo_webhook_answers_total", answer="accepted") == 10
        assert await metric(shim, "mo_webhook_message_seconds_bucket", le="+Inf") == 10
        await wait_for(shim, "worker_started", 4)
        await post(shim.listen, FORM | {"MessageSid": "SM11"})
        assert await metric(shim, "mo_webhook_answers_total", answer="accepted") == 11
        assert await metric(shim, "mo_replica_revision") == service.revision


async def test_workers_end_by_themselves_when_their_supervisor_is_killed(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim:
        workers = shim.worker_pids
        service.may_answer.clear()
        async with Caller(shim.listen) as caller:
            caller.send(encode_request())
            await service.arrived.wait()
            os.kill(shim.pid, signal.SIGKILL)
            await wait_for(shim, "worker_draining", 2)
            service.may_answer.set()
            # What was on its way is answered.
            assert (await caller.read()).status == 204
        await asyncio.to_thread(shim.kill)  # returns when nobody writes to the log any more
        assert await have_ended(workers)


async def test_a_rolling_restart_of_the_workers_fails_no_request(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim, traffic(shim.listen) as callers:
        before = set(shim.worker_pids)
        await callers.wait_for(100)
        os.kill(shim.pid, signal.SIGHUP)
        await wait_for(shim, "rolled")
        await callers.wait_for(100)
        assert len(shim.worker_pids) == 2
        assert before.isdisjoint(shim.worker_pids)
    assert (set(callers.statuses), callers.faults.total()) == ({204}, 0)
    assert callers.accepted <= {message.message_sid for message in service.messages}


async def test_a_shim_whose_socket_is_held_is_replaced_without_a_failed_request(
    service: FakeService, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as held:
        listen = "{}:{}".format(*held.getsockname())
        async with running_workers(service, tmp_path, held=held) as old:
            assert old.listen == listen
            async with traffic(listen) as callers:
                await callers.wait_for(100)
                async with running_workers(service, tmp_path, held=held):
                    await callers.wait_for(100)
                    old.terminate()
                    assert await asyncio.to_thread(old.wait) == 0
                    await callers.wait_for(100)
                    callers.end()
            assert (set(callers.statuses), callers.faults.total()) == ({204}, 0)


async def test_requests_wait_while_nobody_takes_them_from_a_held_socket(service: FakeService, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as held:
        async with running_workers(service, tmp_path, held=held) as old, traffic(old.listen) as callers:
            await callers.wait_for(100)
            old.terminate()
            assert await asyncio.to_thread(old.wait) == 0
            # As systemd does it with one unit: the next one is started when the one before has ended.
            async with running_workers(service, tmp_path, held=held):
                await callers.wait_for(100)
                callers.end()
        assert (set(callers.statuses), callers.faults.total()) == ({204}, 0)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_what_is_no_listening_socket_is_refused(kind: socket.SocketKind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, kind) as held:
        shim = running_shim(tmp_path, service="127.0.0.1:1", held=held)
        with pytest.raises(AssertionError, match="LISTEN_FDS hands over no listening TCP socket"):
            await shim.__aenter__()
        assert await asyncio.to_thread(shim.wait) == 1


async def test_an_idle_connection_is_closed_and_a_new_one_is_served(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path) as shim, Caller(shim.listen) as idle:
        assert (await idle.post()).status == 204
        os.kill(shim.pid, signal.SIGHUP)
        assert await idle.is_closed()
        assert (await post(shim.listen, FORM | {"MessageSid": "SM2"})).status == 204
        await wait_for(shim, "rolled")


async def test_a_second_signal_ends_the_workers_too(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path, workers=2) as shim:
        workers = shim.worker_pids
        service.may_answer.clear()
        async with Caller(shim.listen) as caller:
            caller.send(encode_request())
            await service.arrived.wait()
            shim.terminate()
            await wait_for(shim, "worker_draining")
            shim.terminate()
            assert await asyncio.to_thread(shim.wait) == -signal.SIGTERM
            with pytest.raises((EOFError, ConnectionError)):  # nobody waited for what was on its way
                await caller.read()
        service.may_answer.set()
        assert await have_ended(workers)


async def test_a_worker_that_can_never_serve_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "replica.db").mkdir()
    shim = running_shim(tmp_path, service="127.0.0.1:1")
    with pytest.raises(AssertionError, match="without the event 'listening'"):
        await shim.__aenter__()
    assert await asyncio.to_thread(shim.wait) == 1
    assert "--state-dir" in shim.stderr
    assert "Traceback" not in shim.stderr


async def test_every_worker_verifies_callers_with_the_service_away_however_many_there_were(
    service: FakeService, tmp_path: Path
) -> None:
    async with running_workers(service, tmp_path):
        pass
    await service.stop()
    async with running_shim(tmp_path, service=service.listen, workers=3) as shim:
        await wait_for(shim, "worker_started", 3)
        for _ in range(10):
            response = await post(shim.listen, b"nonsense")
            assert response.status == 400  # verified, then found to be no message
        assert json.loads(await get(shim, "/readyz"))["status"] == "degraded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_signal_to_the_whole_group_ends_no_worker_that_just_starts(
    service: FakeService, tmp_path: Path, number: signal.Signals
) -> None:
    async with running_workers(service, tmp_path) as shim:
        await wait_for(shim, "directory_received")
        (first,) = shim.worker_pids
        os.kill(first, signal.SIGKILL)
        starting = await asyncio.to_thread(wait_for_child, shim.pid, first)
        os.kill(starting, number)
        assert (await wait_for(shim, "worker_started", 2))["pid"] == starting
        assert (await post(shim.listen)).status == 204
        assert "Traceback" not in shim.stderr


def wait_for_child(pid: int, other_than: int) -> int:
    """Return a new child, as soon as it runs what it was started for."""
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for child in (child for child in children if child != other_than):
            if b"shim.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    raise AssertionError("no child was started")


async def test_an_order_to_roll_while_it_drains_starts_nothing(service: FakeService, tmp_path: Path) -> None:
    async with running_workers(service, tmp_path) as shim, Caller(shim.listen) as caller:
        service.may_answer.clear()
        caller.send(encode_request())
        await service.arrived.wait()
        shim.terminate()
        await wait_for(shim, "worker_draining")
        os.kill(shim.pid, signal.SIGHUP)
        service.may_answer.set()
        assert (await caller.read()).status == 204
        assert await asyncio.to_thread(shim.wait) == 0
        names = [event["event"] for event in shim.events]
        assert "rolling" not in names
        assert "task_died" not in names
