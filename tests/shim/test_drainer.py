"""The drainer: order across workers, workers that are frozen or gone, what the service refuses, another drainer."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import grpc
import pytest
from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ERASED,
    INGEST_OUTCOME_HELD,
    INGEST_OUTCOME_REJECTED,
    IngestResult,
    QuarantinedRequest,
)
from aicc.mo.v1.message_pb2 import FieldViolation

from shim.journal import EntryKind, Journal
from shim.journal.payload import encode_kept
from shim.link import encode_quarantined
from shim.translation import TRANSLATORS
from tests.shim.fake_service import FakeService
from tests.shim.journals import Host, append, append_all, message, until
from tests.shim.running import Events

WORKER = """
import asyncio, sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry
from shim.journal import EntryKind, Journal, Marks
from shim.metrics import JournalMetrics
from tests.shim.journals import append, message

async def main():
    folder = Path(sys.argv[1])
    marks = Marks(folder)
    journal = Journal(folder, 0, marks, max_bytes=2**30, metrics=JournalMetrics(CollectorRegistry()))
    number = 0
    print("ready", flush=True)
    while True:
        await append(journal, *[message(f"P{number + place}") for place in range(20)])
        number += 20
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def host(tmp_path: Path, service: FakeService) -> AsyncIterator[Host]:
    host = Host(tmp_path / "journal", service)
    yield host
    await host.close()


def _has(host: Host, sid: str) -> bool:
    return sid in host.delivered


class Worker:
    """Another process that appends without an end."""

    def __init__(self, host: Host) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(host.folder)], stdout=subprocess.PIPE, text=True
        )
        self.acknowledged = 0

    def read(self, lines: int) -> None:
        assert self.process.stdout
        for _ in range(lines):
            line = self.process.stdout.readline().strip()
            self.acknowledged = int(line) if line.isdigit() else 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        for line in self.process.stdout:
            self.acknowledged = int(line)
        self.process.stdout.close()

    @property
    def sids(self) -> list[str]:
        return [f"P{number}" for number in range(self.acknowledged)]


@pytest.fixture
async def worker(host: Host) -> AsyncIterator[Worker]:
    worker = Worker(host)
    await asyncio.to_thread(worker.read, 1)
    yield worker
    if worker.process.poll() is None:
        worker.end()


async def test_messages_of_several_workers_are_merged_in_the_order_in_which_they_came(host: Host) -> None:
    journals = [host.open_journal(slot) for slot in range(3)]
    sids = [f"SM{number}" for number in range(60)]
    for number, sid in enumerate(sids):
        await append_all(journals[number * 7 % 3], sid)
    assert await host.hand_over() == sids
    for journal in journals:
        await journal.close()


async def test_order_holds_while_workers_append_and_the_service_comes_and_goes(host: Host) -> None:
    """Each conversation goes on at the other worker as soon as its last message was kept."""
    journals = [host.open_journal(slot) for slot in range(2)]
    kept = 0

    async def converse(name: int) -> None:
        nonlocal kept
        for number in range(50):
            kept += 1
            await append(journals[(name + number) % 2], message(f"{name}-{number}", sender=f"whatsapp:+{name}"))

    async with host.draining():
        conversations = asyncio.gather(*[converse(name) for name in range(20)])
        for code, share in ((grpc.StatusCode.UNAVAILABLE, 200), (None, 500), (grpc.StatusCode.DEADLINE_EXCEEDED, 800)):
            host.service.ingest_failure = code
            batches = len(host.service.batches)
            await until(lambda share=share, batches=batches: kept >= share and len(host.service.batches) > batches)  # type: ignore[misc]
        host.service.ingest_failure = None
        await conversations
        await host.wait_until_empty()
    stored = [sid for sid, _ in zip(host.delivered, host.service.messages, strict=False)]
    for name in range(20):
        mine = [sid for sid in stored if sid.startswith(f"{name}-")]
        assert mine == [f"{name}-{number}" for number in range(50)]
    for journal in journals:
        await journal.close()


async def test_without_its_marks_nothing_is_lost_or_reordered(host: Host) -> None:
    first, second = host.open_journal(0), host.open_journal(1)
    await append_all(first, "SM1")
    await append_all(second, "SM2")
    await append_all(first, "SM3")
    await first.close()
    await second.close()
    (host.folder / "marks").unlink()
    host.restart()
    drainer = host.open_drainer()
    assert not host.marks.is_empty()
    assert drainer.state.messages == 3
    third = host.open_journal(2, clock=lambda: 1)
    await append_all(third, "SM4")
    await drainer.hand_over_all()
    await third.close()
    assert host.delivered == ["SM1", "SM2", "SM3", "SM4"]


async def test_a_drainer_that_forgot_how_far_it_was_hands_over_again_and_loses_nothing(host: Host) -> None:
    journal = host.open_journal()
    await append_all(journal, "SM1", "SM2")
    await host.hand_over()
    for path in host.folder.glob("handed.db*"):
        path.unlink()
    await append_all(journal, "SM3")
    await journal.close()
    (host.folder / "marks").unlink()
    host.restart()
    assert await host.hand_over() == ["SM1", "SM2", "SM3"]


async def test_a_killed_worker_loses_nothing_that_it_had_kept(host: Host, worker: Worker) -> None:
    await asyncio.to_thread(worker.read, 30)
    worker.end()
    delivered = await host.hand_over()
    assert delivered[: worker.acknowledged] == worker.sids
    assert host.marks.is_empty()
    assert not (host.folder / "0.db").exists()


async def test_a_frozen_worker_holds_nobody_up(host: Host, worker: Worker) -> None:
    async with host.draining():
        for _ in range(20):
            await asyncio.to_thread(worker.read, 3)
            os.kill(worker.process.pid, signal.SIGSTOP)
            other = host.open_journal(0)
            assert other.slot == 1
            sid = f"SM{worker.acknowledged}"
            await append_all(other, sid)
            await until(partial(_has, host, sid))
            await other.close()
            os.kill(worker.process.pid, signal.SIGCONT)
        await asyncio.to_thread(worker.end)
        await host.wait_until_empty()
    assert [sid for sid in host.delivered if sid.startswith("P")][: worker.acknowledged] == worker.sids


async def test_a_second_drainer_waits_for_the_first(host: Host, events: Events) -> None:
    journal = host.open_journal()
    host.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
    await append_all(journal, "SM1", "SM2")
    async with host.draining():
        second = asyncio.create_task(host.open_drainer().run())
        host.service.ingest_failure = None
        await host.wait_until_empty()
    await append_all(journal, "SM3")
    await host.wait_until_empty()
    assert events.count("journal_taken_over") == 1
    assert host.delivered == ["SM1", "SM2", "SM3"]
    second.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await second
    await journal.close()


async def test_what_came_of_a_sender_that_was_erased_meanwhile_is_done_and_kept_nowhere(host: Host) -> None:
    host.service.outcomes["SM1"] = IngestResult(outcome=INGEST_OUTCOME_ERASED)
    journal = host.open_journal()
    await append_all(journal, "SM1")
    assert await host.hand_over() == ["SM1"]
    assert not host.service.quarantined


async def test_what_the_service_rejects_goes_to_quarantine_and_holds_nobody_up(host: Host) -> None:
    violation = FieldViolation(field="sender", description="is odd")
    host.service.outcomes["SM2"] = IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=[violation])
    host.service.outcomes["SM3"] = IngestResult(outcome=INGEST_OUTCOME_HELD)
    journal = host.open_journal()
    await append_all(journal, "SM1", "SM2", "SM3")
    assert await host.hand_over() == ["SM1", "SM2", "SM3"]
    (kept,) = host.service.quarantined.values()
    assert kept.is_accepted
    assert (kept.channel_config_id, kept.integrator, list(kept.reasons)) == ("C1", "twilio", [violation])
    assert dict(parse_qsl(kept.body.decode())) == {
        "From": "whatsapp:+1",
        "To": "r",
        "MessageSid": "SM2",
        "MessageType": "text",
    }
    await journal.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL], ids=str)
async def test_a_message_that_the_service_chokes_on_is_found_and_quarantined(host: Host, code: grpc.StatusCode) -> None:
    host.service.poison = {"SM370": code, "SM437": code}
    journal = host.open_journal()
    sids = [f"SM{number}" for number in range(450)]
    await append_all(journal, *sids)
    await host.hand_over()
    assert len(host.service.from_journal) >= 448
    bodies = sorted(dict(parse_qsl(kept.body.decode()))["MessageSid"] for kept in host.service.quarantined.values())
    assert bodies == ["SM370", "SM437"]
    assert len(host.service.batches) < 200  # found by halves, not one by one
    assert host.marks.is_empty()
    await journal.close()


async def test_a_service_that_fails_on_everything_is_waited_for(host: Host) -> None:
    host.service.ingest_failure = grpc.StatusCode.INTERNAL
    journal = host.open_journal()
    await append(journal, *[message(f"SM{number}", sender=f"whatsapp:+{number % 3}") for number in range(9)])
    async with host.draining() as drainer:
        await until(lambda: len(host.service.batches) >= 60)  # three tries of each message, and more
        assert (drainer.state.messages, drainer.state.last_failure) == (9, "INTERNAL")
        host.service.ingest_failure = None
        await host.wait_until_empty()
    assert host.service.quarantined == {}
    assert sorted(set(host.delivered)) == [f"SM{number}" for number in range(9)]
    await journal.close()


async def test_a_message_is_to_blame_when_another_one_is_taken_and_those_behind_it_wait_their_turn(host: Host) -> None:
    host.service.poison = {"SM0": grpc.StatusCode.INTERNAL}
    journal = host.open_journal()
    await append(journal, *[message(f"SM{number}", sender=f"whatsapp:+{number % 2}") for number in range(6)])
    await host.hand_over()
    (kept,) = host.service.quarantined.values()
    assert dict(parse_qsl(kept.body.decode()))["MessageSid"] == "SM0"
    first = list(dict.fromkeys(host.delivered))
    assert [sid for sid in first if sid in {"SM1", "SM3", "SM5"}] == ["SM1", "SM3", "SM5"]
    assert [sid for sid in first if sid in {"SM2", "SM4"}] == ["SM2", "SM4"]
    await journal.close()


async def test_what_not_even_the_quarantine_takes_is_kept_aside(host: Host, events: Events) -> None:
    host.service.poison = {"SM2": grpc.StatusCode.INTERNAL}
    host.service.quarantine_failure = grpc.StatusCode.INTERNAL
    journal = host.open_journal()
    await append_all(journal, "SM1", "SM2", "SM3")
    async with asyncio.timeout(50):
        state = await host.open_drainer().hand_over_all()
    assert (state.messages, state.kept_aside) == (0, 1)
    assert events.count("entry_kept_aside") == 1
    assert "SM3" in host.delivered
    await journal.close()
    drainer = host.open_drainer()
    assert drainer.state.kept_aside == 1
    drainer.close()


async def test_a_service_that_is_another_one_is_waited_for(host: Host) -> None:
    host.service.ingest_failure = grpc.StatusCode.UNIMPLEMENTED
    journal = host.open_journal()
    await append_all(journal, "SM1")
    async with host.draining() as drainer:
        await until(lambda: len(host.service.batches) >= 6)
        assert drainer.state.last_failure == "UNIMPLEMENTED"
        assert host.service.quarantined == {}
        host.service.ingest_failure = None
        await host.wait_until_empty()
    assert host.service.from_journal == [True]
    await journal.close()


async def test_invalid_requests_come_out_of_the_journal_too(host: Host) -> None:
    journal = host.open_journal()
    requests = [encode_quarantined(QuarantinedRequest(entry_id=f"e{number}")) for number in range(250)]
    await append(journal, *requests, kind=EntryKind.QUARANTINE)
    await append_all(journal, "SM1")
    assert await host.hand_over() == ["SM1"]
    assert list(host.service.quarantined) == [f"e{number}" for number in range(250)]
    await journal.close()


async def test_a_service_that_is_away_is_probed_with_one_message(host: Host) -> None:
    host.service.ingest_failure = grpc.StatusCode.UNAVAILABLE
    journal = host.open_journal()
    await append_all(journal, *[f"SM{number}" for number in range(1_000)])
    async with host.draining() as drainer:
        await until(lambda: len(host.service.batches) >= 5)
        state = drainer.state
        assert [len(batch) for batch in host.service.batches[:5]] == [500, 1, 1, 1, 1]
        assert (state.messages, state.last_failure) == (1_000, "UNAVAILABLE")
        assert state.oldest_at == state.journalling_since
        assert state.oldest_at is not None
        host.service.ingest_failure = None
        await host.wait_until_empty()
        assert drainer.state.oldest_at is None
    await journal.close()


async def test_a_batch_stays_within_what_the_service_takes(host: Host) -> None:
    journal: Journal = host.open_journal()
    payloads = [message(f"SM{number}", body="x" * 250_000) for number in range(20)]
    assert set(await append(journal, *payloads)) == {None}
    await host.hand_over()
    sizes = [sum(one.ByteSize() for one in batch) for batch in host.service.batches]
    assert max(sizes) < 2**21
    assert len(sizes) == 3
    await journal.close()


async def test_what_was_kept_aside_is_offered_again_by_the_next_drainer(host: Host, events: Events) -> None:
    sids = ["SM2", "SM3"]
    host.service.poison = dict.fromkeys(sids, grpc.StatusCode.INTERNAL)
    host.service.quarantine_failure = grpc.StatusCode.INTERNAL
    journal = host.open_journal()
    await append_all(journal, "SM1", *sids)
    await host.hand_over()
    assert (await host.open_drainer().hand_over_all()).kept_aside == 2  # nothing has changed
    host.service.poison = {}
    host.service.batches.clear()
    async with host.draining() as drainer:
        await until(lambda: drainer.state.kept_aside == 0)
    assert host.delivered == sids
    host.service.batches.clear()
    assert (await host.open_drainer().hand_over_all()).kept_aside == 0
    assert host.delivered == []  # they are no longer there
    await journal.close()


async def test_an_entry_of_a_kind_that_only_a_newer_shim_knows_is_kept_for_it(host: Host) -> None:
    journal = host.open_journal()
    newer: Any = 77
    assert await append(journal, b"?", kind=newer) == [None]
    await append_all(journal, "SM1")
    async with asyncio.timeout(50):
        state = await host.open_drainer().hand_over_all()
    assert (host.delivered, state.messages, state.kept_aside) == (["SM1"], 0, 1)
    await journal.close()


async def test_a_message_is_restored_as_the_form_of_its_own_integrator(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(TRANSLATORS["twilio"], to_form=lambda message: [("sid", message.message_sid)])
    monkeypatch.setattr("shim.journal.handover.TRANSLATORS", {**TRANSLATORS, "other": other})
    violation = FieldViolation(field="sender", description="is odd")
    for sid in ("SM1", "SM2", "SM3"):
        host.service.outcomes[sid] = IngestResult(outcome=INGEST_OUTCOME_REJECTED, violations=[violation])
    journal = host.open_journal()
    integrators = {"SM1": "other", "SM2": "twilio", "SM3": "of another shim"}
    await append(journal, *[encode_kept(message(sid), integrator) for sid, integrator in integrators.items()])
    async with asyncio.timeout(50):
        state = await host.open_drainer().hand_over_all()
    assert [kept.integrator for kept in host.service.quarantined.values()] == ["other", "twilio"]
    assert next(iter(host.service.quarantined.values())).body == b"sid=SM1"
    assert state.kept_aside == 1  # nobody here can restore the third
    await journal.close()


async def test_a_folder_that_fails_now_and_then_does_not_end_the_drainer(host: Host, events: Events) -> None:
    obstacle = host.folder / "5.db.lock"
    async with host.draining():
        obstacle.mkdir()
        (host.folder / "5.db").touch()
        await events.wait_for("hand_over_failed")
        obstacle.rmdir()
        (host.folder / "5.db").unlink()
        journal = host.open_journal()
        await append_all(journal, "SM1")
        await host.wait_until_empty()
    assert host.delivered == ["SM1"]
    await journal.close()


async def test_a_failure_that_nobody_expected_is_logged_and_what_waits_is_handed_over_later(
    host: Host, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.open_journal()
    await append_all(journal, "SM1")
    with monkeypatch.context() as broken:
        broken.setattr(host.link, "send", None)
        task = asyncio.create_task(host.open_drainer().run())
        await events.wait_for("hand_over_failed")
    assert events.facts("hand_over_failed")["exception"] == "TypeError"
    await host.wait_until_empty()
    assert host.delivered == ["SM1"]
    task.cancel()
    await asyncio.wait([task])
    await journal.close()
