"""Real processes for tests: the service, the shim, or whatever else logs JSON lines on stderr.

    with running_service(tmp_path) as service, running_shim(tmp_path, service=service.listen) as shim:
        ...
        service.kill()

`async with` does the same without stopping the test's own event loop. Each
process picks free ports, none outlives its block, and a block fails when its
process ended unasked or didn't end in order.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.ports import reserve_address

START_SECONDS = 60.0
STOP_SECONDS = 60.0

FlagValue = bool | int | float | str | Path
Flag = FlagValue | Sequence[FlagValue] | None
Event = Mapping[str, Any]

_alive: set[subprocess.Popen[str]] = set()


def running_service(directory: Path, /, *, env: Mapping[str, str] | None = None, **flags: Flag) -> Process:
    """The service with its store in `directory`, so that a successor finds what the first one stored.

    Flags are named as in Python: `ack_deadline=3` is `--ack-deadline 3`, True a
    bare flag, a list a repeated one, and None leaves a default of ours out.
    `listen=service.listen` starts a successor on the same port.
    """
    ours: dict[str, Flag] = {
        "listen": reserve_address(),
        "admin_listen": reserve_address(),
        "store": f"sqlite:///{directory / 'mo.db'}",
    }
    return Process("service", ours | flags, cwd=directory, env=env)


def running_shim(
    directory: Path,
    /,
    *,
    service: str,
    held: socket.socket | None = None,
    env: Mapping[str, str] | None = None,
    **flags: Flag,
) -> Process:
    """A shim before `service` ("host:port") with its state in `directory`/shim; flags as in `running_service`.

    `held` is a listening socket that we hold and hand over to it, as systemd does.
    """
    ours: dict[str, Flag] = {
        "listen": reserve_address(),
        "admin_listen": reserve_address(),
        "service": service,
        "state_dir": directory / "shim",
    }
    return Process("shim", ours | flags, cwd=directory, env=env, held=held)


# What systemd does between fork and exec: the socket becomes file 3, and the variables name this very process.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process:
    """One `python -m module` that logs JSON lines; runs inside a `with` or `async with` block."""

    listen: str
    admin_listen: str

    def __init__(
        self,
        module: str,
        flags: Mapping[str, Flag],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        held: socket.socket | None = None,
    ) -> None:
        self.command = [sys.executable, "-m", module, *_spell(flags)]
        self._held = held
        self._cwd = cwd
        self._env = _clean_environment() | dict(env or {})
        self._log: list[str] = []
        self._events: list[Event] = []
        self._log_closed = False
        self._log_grew = threading.Condition()
        self._end_is_asked = False

    def __enter__(self) -> Self:
        self._spawn()
        try:
            self._await_ports()
        except BaseException:
            self._end_at_once()
            raise
        return self

    async def __aenter__(self) -> Self:
        self._spawn()
        try:
            await asyncio.to_thread(self._await_ports)
        except BaseException:
            self._end_at_once()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end_in_order()
        finally:
            self._end_at_once()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await asyncio.to_thread(self._end_in_order)
        finally:
            self._end_at_once()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def worker_pids(self) -> list[int]:
        """The workers of a shim that serve, as far as it has logged, oldest first."""
        events = self.events
        gone = {event["pid"] for event in events if event.get("event") in {"worker_ended", "worker_died"}}
        started = [event["pid"] for event in events if event.get("event") == "worker_started"]
        return [pid for pid in started if pid not in gone]

    @property
    def stderr(self) -> str:
        """All that it has logged so far."""
        with self._log_grew:
            return "".join(self._log)

    @property
    def events(self) -> list[Event]:
        """All JSON lines that it has logged so far."""
        with self._log_grew:
            return list(self._events)

    def wait_for_event(self, name: str, *, occurrence: int = 1, timeout: float = START_SECONDS) -> Event:
        """Return the first (second, …) event of this name, logged already or within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._log_grew:
            while True:
                found = [event for event in self._events if event.get("event") == name]
                if len(found) >= occurrence:
                    return found[occurrence - 1]
                if self._log_closed or not self._log_grew.wait(deadline - time.monotonic()):
                    why = "ended" if self._log_closed else f"{timeout:g} s went by"
                    raise AssertionError(f"{self._title}: {why} without the event {name!r}:\n{''.join(self._log)}")

    def kill(self) -> None:
        """End it with SIGKILL and return when it is gone; its log is complete then."""
        self._end_is_asked = True
        self._process.kill()
        self.wait()

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self._end_is_asked = True
        self._process.terminate()

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Return its exit code when it is gone (negative: the signal that ended it); its log is complete then."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def freeze(self) -> None:
        """Stop it with SIGSTOP, sockets open; it is frozen when this returns."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def _title(self) -> str:
        return " ".join(self.command[1:3])

    def _spawn(self) -> None:
        passed = [self._held.fileno()] if self._held else []
        before = [sys.executable, "-c", _HAND_OVER, str(passed[0])] if passed else []
        self._process = subprocess.Popen(
            before + self.command,
            pass_fds=passed,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,  # its own children end with it, and Ctrl-C is ours to pass on
        )
        _alive.add(self._process)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[str]) -> None:
        with stderr:
            for line in stderr:
                event = _parse(line)
                with self._log_grew:
                    self._log.append(line)
                    self._events += [event] if event else []
                    self._log_grew.notify_all()
        with self._log_grew:
            self._log_closed = True
            self._log_grew.notify_all()

    def _await_ports(self) -> None:
        event = self.wait_for_event("listening")
        self.listen, self.admin_listen = event["listen"], event["admin_listen"]

    def _end_in_order(self) -> None:
        if self._end_is_asked:
            self.wait()
            return
        code = self._process.poll()
        assert code is None, f"{self._title} ended unasked with {code}:\n{self.stderr}"
        self.thaw()
        self.terminate()
        code = self.wait()
        assert code == 0, f"{self._title} ended with {code} at SIGTERM:\n{self.stderr}"

    def _end_at_once(self) -> None:
        _kill_group(self._process)
        self._reader.join(STOP_SECONDS)
        sys.stderr.write(self.stderr)  # pytest shows it when the test fails


def _spell(flags: Mapping[str, Flag]) -> list[str]:
    """Write keyword arguments as a command line does."""
    words: list[str] = []
    for name, flag in flags.items():
        option = "--" + name.replace("_", "-")
        for value in flag if isinstance(flag, Sequence) and not isinstance(flag, str) else [flag]:
            if value is True:
                words.append(option)
            elif value is not None and value is not False:
                words += [option, str(value)]
    return words


def _clean_environment() -> dict[str, str]:
    """Leave out the variables that set flags: what a developer has set for `make run` is not for tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MO_SERVICE", "MO_SHIM"))}


def _parse(line: str) -> Event | None:
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict):
            return event
    return None


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _alive.discard(process)


@atexit.register
def _kill_survivors() -> None:
    for process in list(_alive):
        _kill_group(process)
