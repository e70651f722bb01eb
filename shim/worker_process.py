"""A worker as its supervisor sees it: a child process that serves, what it says, and what it is told."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from shim.health import Readiness, Reason
from shim.lifetime import cancel
from shim.settings import Settings
from shim.sums import Snapshot
from shim.worker_child import WorkerChild

_MAX_LINE_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker said it is."""

    metrics: Snapshot
    reasons: Sequence[Reason]


class WorkerProcess:
    """One child that was let serve. What it reported last is remembered, also after its end."""

    def __init__(
        self, child: WorkerChild, slot: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.slot = slot
        self.report = Report([], [])
        self.failure = ""
        """Why it couldn't start, as it said itself."""
        self.settled = asyncio.Event()
        """It serves, or it has ended."""
        self.released = asyncio.Event()
        """It has ended, or another one has taken its place."""
        self.ended = asyncio.Event()
        self.is_serving = False
        self.is_leaving = False
        """Whether it was told to stop."""
        self.silence = 0
        """How many of the supervisor's rounds it has been silent."""
        self.rounds_leaving = 0
        self._process = child.process
        self._reader = reader
        self._writer = writer
        self._answer: asyncio.Future[None] | None = None
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def let_serve(
        cls, child: WorkerChild, settings: Settings, slot: int, sockets: Sequence[socket.socket]
    ) -> Self:
        """Let a child that was started take requests on these sockets.

        Raises `OSError` when it can't be given them; then it is ended.
        """
        try:
            child.equip(settings, slot, sockets)
            reader, writer = await asyncio.open_connection(sock=child.line, limit=_MAX_LINE_BYTES)
        except BaseException:  # also when nobody waits for it any more: it is nobody's yet
            child.end()
            raise
        return cls(child, slot, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None while it runs."""
        return self._process.returncode

    def ask(self) -> None:
        """Ask for a report, unless it owes one already."""
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().create_future()
            self._order("report")

    async def wait_for_report(self, seconds: float) -> bool:
        """Ask for a report and wait for it; False when there is none in that time."""
        self.ask()
        return await self._has_answered(seconds)

    @property
    def owes_report(self) -> bool:
        """Whether it was asked and hasn't answered yet."""
        return self._answer is not None and not self._answer.done()

    def stop(self) -> None:
        """Tell it to answer what is on its way and end."""
        if not self.is_leaving:
            self.is_leaving = True
            self._order("stop")

    def kill(self) -> None:
        """End it at once; does nothing when it has ended."""
        self._process.kill()

    async def close(self) -> None:
        """Hang up on one that has ended."""
        await cancel(self._watching)

    async def _has_answered(self, seconds: float) -> bool:
        if self._answer:
            await asyncio.wait({self._answer}, timeout=seconds)
        return not self.owes_report

    def _order(self, order: str) -> None:
        if not self._writer.is_closing():
            self._writer.write(order.encode() + b"\n")

    async def _watch(self) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                # What a worker that was killed had not finished is no line.
                while (line := await self._reader.readline()).endswith(b"\n"):
                    self._hear(json.loads(line))
            await asyncio.to_thread(self._process.wait)
        finally:
            self._writer.close()
            if self._answer and not self._answer.done():
                self._answer.set_result(None)
            self.is_serving = False
            for event in (self.ended, self.settled, self.released):
                event.set()

    def _hear(self, words: dict[str, Any]) -> None:
        if report := words.get("report"):
            reasons = [Reason(Readiness(readiness), *rest) for readiness, *rest in report["reasons"]]
            self.report = Report(report["metrics"], reasons)
            self.silence = 0
            if self._answer and not self._answer.done():
                self._answer.set_result(None)
        self.failure = words.get("failed", self.failure)
        if words.get("serving"):
            self.is_serving = True
            self.settled.set()
