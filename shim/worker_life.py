"""The life of a worker's process: it serves until its supervisor tells it to stop, or is gone."""

import asyncio
import contextlib
import json
import logging
import signal
import socket

import uvloop
from prometheus_client import CollectorRegistry

from shim import logs
from shim.errors import StartError
from shim.health import Health
from shim.lifetime import cancel, log_lost_exceptions
from shim.memory import return_large_blocks, spare_what_is_there
from shim.metrics import JournalMetrics, process_registry
from shim.privacy import keep_private
from shim.settings import from_json
from shim.sums import take_snapshot
from shim.worker import Part, open_worker
from shim.worker_child import GROUP_SIGNALS, wait_for_equipment

_log = logging.getLogger("shim.worker")


def run(line: socket.socket) -> int:
    """Wait for the sockets, take requests on them to the end, and return the exit code."""
    keep_private()
    return_large_blocks()
    equipment = wait_for_equipment(line)
    if equipment is None:
        return 0
    settings, slot = from_json(equipment.words["settings"]), equipment.words["slot"]
    logs.configure(settings.log_level, worker=slot)
    part = Part(settings, slot, equipment.sockets)
    return uvloop.run(_serve(part, line))  # a tenth less CPU than asyncio's own loop


async def _serve(part: Part, line: socket.socket) -> int:
    log_lost_exceptions()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    for number in GROUP_SIGNALS:  # which were blocked until now
        loop.add_signal_handler(number, lambda: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    voice = Voice(*await asyncio.open_connection(sock=line))
    registry, health = process_registry(), Health()
    obeying = asyncio.create_task(voice.obey(stopped, registry, health))
    try:
        async with open_worker(part, registry, health, JournalMetrics(registry)):
            spare_what_is_there()
            voice.say(serving=True)
            await stopped.wait()
            _log.info("worker_draining")
    except StartError as error:
        voice.say(failed=str(error))
        return 1
    else:
        voice.report(registry, health)
        return 0
    finally:
        await cancel(obeying)
        await voice.hang_up()


class Voice:
    """A worker's end of its line to the supervisor: JSON lines both ways."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def obey(self, stopped: asyncio.Event, registry: CollectorRegistry, health: Health) -> None:
        """Report whenever asked, and set `stopped` when told to, or when the supervisor is gone."""
        with contextlib.suppress(ConnectionError):
            while order := (await self._reader.readline()).decode().strip():
                if order == "report":
                    self.report(registry, health)
                else:
                    stopped.set()
        stopped.set()

    def report(self, registry: CollectorRegistry, health: Health) -> None:
        """Say how this worker is."""
        reasons = [
            [reason.readiness.value, reason.reason, reason.detail, dict(reason.facts)]
            for reason in health.find_reasons()
        ]
        self.say(report={"metrics": take_snapshot(registry), "reasons": reasons})

    def say(self, **words: object) -> None:
        """Send one line."""
        self._writer.write(json.dumps(words).encode() + b"\n")

    async def hang_up(self) -> None:
        """Close the line when everything is said."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
