"""Memory: of a worker that has taken messages of 10,000 channels, and of the service after 1,000,000 messages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from aicc.mo.v1.message_ingest_pb2 import IngestBatchRequest
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestStub

from service.__main__ import open_service
from service.passwords import Hashing
from service.settings import Settings
from tests.bench.calls import connected
from tests.bench.consumer import consuming
from tests.bench.filling import AUTHORIZATION, make_channels, opened
from tests.bench.load import Target, post_for
from tests.bench.measuring import create_channel, resident_mib
from tests.bench.mo_messages import a_text
from tests.bench.scenario import Aimed, Figure, Figures, Options
from tests.processes import Process, running_service, running_shim

_CHANNELS, _OF_FULL_STRENGTH = 10_000, 100
_WEAK = Hashing(memory_kib=8, passes=1)
"""Computing 10,000 passwords of full strength takes minutes; what it takes in memory, the first 100 show."""
_EACH = 3
"""How many messages each channel has at least."""
_MESSAGES = 1_000_000
_BATCH = 500
_AHEAD = 20_000
"""How many messages may wait for the consumer."""
_LOOK_EVERY = 100_000
_WORKER_MIB, _SERVICE_MIB = 80.0, 150.0


def run(options: Options) -> Figures:
    """Measure the worker, then the service."""
    return {**asyncio.run(_measure_worker(options)), **_measure_service(options)}


async def _measure_worker(options: Options) -> Figures:
    store = options.folder / "channels.db"
    async with opened(f"sqlite:///{store}") as filled:
        await make_channels(filled, range(_OF_FULL_STRENGTH), options.tell)
        await make_channels(filled, range(_OF_FULL_STRENGTH, _CHANNELS), options.tell, hashing=_WEAK)
    # In this process, where weak hashes are wanted: as its own it would have the worker make them anew.
    settings = Settings("127.0.0.1:0", "127.0.0.1:0", store, hashing=_WEAK)
    async with open_service(settings) as service, running_shim(options.folder, service=service.listen) as shim:
        await asyncio.to_thread(shim.wait_for_event, "directory_received", timeout=300)
        (worker,) = shim.worker_pids
        before = _mib(worker)
        taken = 0
        while taken < _EACH * _CHANNELS:
            taken += await _post(options, Target(shim.listen, AUTHORIZATION, channels=_OF_FULL_STRENGTH))
            taken += await _post(options, Target(shim.listen, AUTHORIZATION, channels=_CHANNELS))
            options.tell(f"{taken:,} messages of {_CHANNELS:,} channels, {_mib(worker)} MiB")
        return {
            "worker that knows of 10,000 channels: MiB": before,
            "worker with 10,000 channels in memory: MiB": Aimed(7, [resident_mib(worker)], _WORKER_MIB, digits=1),
            "worker with 10,000 channels in memory: MiB at most": round(resident_mib(worker, is_peak=True), 1),
        }


async def _post(options: Options, target: Target) -> int:
    sent = await asyncio.to_thread(partial(post_for, 10, target, connections=options.connections))
    return sent.taken


def _measure_service(options: Options) -> Figures:
    folder = Path(options.folder, "service")
    folder.mkdir()
    with running_service(folder) as service:
        create_channel(service)
        mib = asyncio.run(_send_all(options, service))
        figures: dict[str, Figure] = {
            f"service after {count:,} messages: MiB": found for count, found in mib.items() if count != _MESSAGES
        }
        figures["service after 1,000,000 messages: MiB"] = Aimed(7, [mib[_MESSAGES]], _SERVICE_MIB, digits=1)
        figures["service after 1,000,000 messages: MiB at most"] = round(resident_mib(service.pid, is_peak=True), 1)
        return figures


async def _send_all(options: Options, service: Process) -> Mapping[int, float]:
    """Return the service's memory after so many messages, each taken by a consumer."""
    mib = {0: _mib(service.pid)}
    async with connected(service) as channel, consuming(service) as consumer:
        stub = MessageIngestStub(channel)
        for start in range(0, _MESSAGES, _BATCH):
            messages = [a_text(number, conversations=100_000) for number in range(start, start + _BATCH)]
            await stub.IngestBatch(IngestBatchRequest(messages=messages))
            await consumer.wait_for(start - _AHEAD)
            if (start + _BATCH) % _LOOK_EVERY == 0:
                await consumer.wait_for(start + _BATCH)
                mib[start + _BATCH] = _mib(service.pid)
                consumer.forget()
                options.tell(f"{start + _BATCH:,} of {_MESSAGES:,} messages, {mib[start + _BATCH]} MiB")
    return mib


def _mib(pid: int) -> float:
    return round(resident_mib(pid), 1)
