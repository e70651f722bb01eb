"""The processes of the demo: started, followed, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_STOP_SECONDS = 15.0
# Longer than any line that a process of ours logs.
_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_LOG_BYTES = 10 * 1024 * 1024


class DemoError(Exception):
    """The demo can't go on; the message is one line that says why."""


class LogFile:
    """A log that is set aside when it gets large; the one before it is kept, no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab")

    def write(self, line: bytes) -> None:
        if self._file.tell() > _MAX_LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("ab")
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Child:
    """One of the two processes, and what it logs.

    `listening` is done when it listens, `ended` when it and its log have
    ended. `is_echoing` shows its warnings and errors on the terminal.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, stderr: asyncio.StreamReader, log: LogFile
    ) -> None:
        self.name = name
        self.listen = ""
        self.admin_listen = ""
        self.is_echoing = False
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._follow(log))
        self._process = process
        self._stderr = stderr
        self._plain: list[str] = []
        self._last_error = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, module: str, arguments: list[str], log: LogFile) -> Child:
        """Start `python -m module`, out of reach of the terminal's Ctrl-C: their order of stopping matters."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,
        )
        if process.stderr is None:
            raise DemoError(f"the {module} has no stderr to follow")
        return cls(module, process, process.stderr, log)

    async def stop(self) -> None:
        """Ask it to end in order, and insist when it takes too long or nobody waits any more."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait({self.ended}, timeout=_STOP_SECONDS)
            if not self.ended.done():
                sys.stderr.write(f"mo demo: the {self.name} did not stop within {_STOP_SECONDS:g} s; it is killed\n")
        finally:
            self.kill()
            await self.ended

    def kill(self) -> None:
        """End it at once; does nothing when it has ended.

        Nothing is echoed any more: its workers outlive it by a moment, and could only tell of the end.
        """
        self.is_echoing = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def last_words(self) -> str:
        """Say in one line that it ended, and why."""
        # A crash says the most in its last line; refused flags are a line each.
        plain = self._plain[-1:] if any(line.startswith("Traceback") for line in self._plain) else self._plain
        why = self._last_error or "; ".join(plain) or "it logged no reason"
        code = self._process.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the {self.name} {how}: {why}"

    async def _follow(self, log: LogFile) -> None:
        with contextlib.closing(log):
            while line := await self._stderr.readline():
                log.write(line)
                self._take(line.decode(errors="replace").rstrip())
        await self._process.wait()

    def _take(self, line: str) -> None:
        event = _parse(line)
        if event is None:
            # How to use a command says nothing of what is wrong.
            if line and not line.startswith(("Usage:", "Try ")):
                self._plain = [*self._plain[-9:], line]
            text = line
        elif event.get("event") == "listening" and not self.listening.done():
            self.listen, self.admin_listen = str(event.get("listen")), str(event.get("admin_listen"))
            self.listening.set_result(None)
            return
        else:
            text = _short(event)
        level = event.get("level") if event else "error"
        if event and level in {"error", "critical"}:
            self._last_error = text
        if self.is_echoing and level in {"warning", "error", "critical"}:
            sys.stderr.write(f"{self.name}: {text}\n")
            sys.stderr.flush()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _short(event: Mapping[str, Any]) -> str:
    """Return an event as `level what-happened field=value …`."""
    fields = [f"{name}={value}" for name, value in event.items() if name not in {"time", "level", "event"}]
    return " ".join([str(event.get("level")), str(event.get("event")), *fields]).replace("\n", " | ")
