"""`mo-service check`: what it says of a store, and that it only looks."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

from service.errors import StoreRefused
from service.store.contract import Store
from service.store.inspection import Inspection
from service.store.migrations import load_migrations
from service.store.postgres import inspection as postgres_inspection
from service.store.postgres.inspection import find_neglected, inspect_database
from service.store.sqlite import SqliteStore, inspection
from service.store.sqlite.inspection import inspect_file
from tests.postgres_server import Databases
from tests.processes import Process
from tests.service.builders import ManualClock, a_channel, a_message
from tests.service.patience import open_patiently
from tests.service.rich_store import fill
from tests.service.transactions import execute

NEWEST = len(load_migrations("sqlite"))
Inspect = Callable[[], Awaitable[Inspection]]


@pytest.fixture(params=["sqlite", "postgres"])
async def inspected(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[tuple[Store, Inspect]]:
    """A store that is open, and what looks it over."""
    if request.param == "sqlite":
        path = tmp_path / "mo.db"
        store: Store = SqliteStore.open(path, clock=clock)

        async def inspect() -> Inspection:
            return inspect_file(path)

        yield store, inspect
        await store.close()
        return
    databases: Databases = request.getfixturevalue("postgres")
    async with databases.database() as dsn:
        store = await open_patiently(dsn, clock)
        yield store, lambda: inspect_database(dsn)
        await store.close()


def described(inspection: Inspection) -> str:
    return "\n".join(f"{what}: {action}" for what, action in inspection.findings)


async def test_a_new_store_is_well(inspected: tuple[Store, Inspect]) -> None:
    _, inspect = inspected

    found = await inspect()

    concerns = {what for what, _ in found.findings}
    assert concerns <= {"PostgreSQL's fsync is off: a crash can destroy everything"}  # servers of tests are fast
    assert (found.schema, found.newest_known_schema) == (NEWEST, NEWEST)
    assert found.database_bytes > 0


async def test_what_waits_for_somebody_is_named_with_what_to_do(
    inspected: tuple[Store, Inspect], clock: ManualClock
) -> None:
    store, inspect = inspected
    await fill(store, clock)

    found = await inspect()

    for wanted in (
        'wait for "bot", the oldest for',
        "mo destination show bot",
        '2 deliveries to "dying" were given up',
        "mo dead-letter list --destination dying",
        "2 messages are held",
        "mo held list",
        "1 requests that were accepted are in quarantine",
        "mo quarantine list",
    ):
        assert wanted in described(found)
    assert found.content is not None
    assert (found.content.held, found.content.quarantined, found.content.quarantined_accepted) == (2, 2, 1)
    assert {waiting.destination for waiting in found.content.destinations} >= {"bot", "agents", "archive", "dying"}


async def test_tables_and_indexes_are_measured(inspected: tuple[Store, Inspect]) -> None:
    store, inspect = inspected
    await store.create_channel(a_channel())
    await store.record([a_message(f"SM{number}", payload=b"x" * 1000) for number in range(200)])

    found = await inspect()

    sizes = {table.name: table for table in found.tables}
    assert sizes["message"].table_bytes > 200_000
    assert sizes["message"].index_bytes > 0
    assert found.rows_are_estimated or sizes["message"].rows == 200
    assert "message" in {index.table for index in found.indexes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mo.db"


async def make_empty(path: Path, **schema: int) -> None:
    await SqliteStore.open(path).close()
    connection = apsw.Connection(str(path))
    for column, value in schema.items():
        connection.execute(f"UPDATE schema_version SET {column} = ?", (value,))
    connection.close()


async def test_an_older_schema_is_said_and_what_it_has_not_is_not_asked_for(path: Path) -> None:
    await make_empty(path, version=NEWEST - 1, oldest_code=1)

    found = inspect_file(path)

    assert "start the service in this version" in described(found)
    assert found.content is None


async def test_a_schema_that_needs_newer_code_is_said(path: Path) -> None:
    await make_empty(path, version=NEWEST + 1, oldest_code=NEWEST + 1)

    found = inspect_file(path)

    assert "use a newer mo-service" in described(found)
    assert found.content is None


async def test_a_newer_schema_that_this_code_may_use_is_well(path: Path) -> None:
    await make_empty(path, version=NEWEST + 1, oldest_code=NEWEST)

    found = inspect_file(path)

    assert found.findings == []
    assert found.content is not None


async def test_space_that_is_free_inside_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MUCH_FREE_BYTES", 0)
    await make_empty(path)
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE large (content); INSERT INTO large VALUES (zeroblob(4000000)); DROP TABLE large")
    connection.close()

    assert "VACUUM" in described(inspect_file(path))


async def test_a_log_that_a_reader_lets_grow_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "LARGE_WAL_BYTES", 0)
    store = SqliteStore.open(path)
    await store.create_channel(a_channel())

    assert "somebody reads the store for long" in described(inspect_file(path))
    await store.close()


@pytest.mark.parametrize("content", [None, b"", b"something else, of some length " * 100])
def test_a_file_that_is_no_store_is_one_clear_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StoreRefused, match=r"other\.db.*--store"):
        inspect_file(path)

    assert path.exists() is (content is not None)


SERVER: Mapping[str, Any] = {"transactions since freezing": 100}
INDEX: Mapping[str, Any] = {"name": "lane_due", "is_valid": True}
TABLE: Mapping[str, Any] = {
    "name": "lane",
    "rows": 1_000_000,
    "dead_rows": 10_000,
    "seq_scans": 2_000,
    "idx_scans": 1_000_000,
    "is_unknown": False,
}


def neglected(server: Mapping[str, Any], table: Mapping[str, Any], index: Mapping[str, Any]) -> str:
    found = find_neglected({**SERVER, **server}, [{**TABLE, **table}], [{**INDEX, **index}])
    return " ".join(f"{what}: {action}" for what, action in found)


def test_a_database_that_is_kept_up_with_is_well() -> None:
    assert neglected({}, {}, {}) == ""
    assert neglected({}, {"rows": 100, "dead_rows": 500, "seq_scans": 10**6, "is_unknown": True}, {}) == ""


@pytest.mark.parametrize(
    ("server", "table", "index", "action"),
    [
        ({"transactions since freezing": 1_500_000_000}, {}, {}, "VACUUM FREEZE"),
        ({}, {"dead_rows": 600_000}, {}, "VACUUM lane"),
        ({}, {"is_unknown": True}, {}, "ANALYZE lane"),
        ({}, {"idx_scans": 3}, {}, "ANALYZE lane"),
        ({}, {}, {"is_valid": False}, "REINDEX INDEX CONCURRENTLY lane_due"),
    ],
)
def test_what_postgresql_has_not_kept_up_with_is_said(
    server: Mapping[str, Any], table: Mapping[str, Any], index: Mapping[str, Any], action: str
) -> None:
    assert action in neglected(server, table, index)


async def test_an_index_that_is_not_valid_is_said(dsn: str) -> None:
    await execute(dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lane_due'::regclass")

    assert "REINDEX INDEX CONCURRENTLY lane_due" in described(await inspect_database(dsn))


async def test_a_copy_that_was_not_finished_is_said(dsn: str) -> None:
    await execute(dsn, "CREATE TABLE copy_progress (table_name text, rows bigint, source text)")

    assert "run the same mo-service copy again" in described(await inspect_database(dsn))


async def test_an_empty_database_holds_no_store(postgres: Databases) -> None:
    async with postgres.empty_database() as dsn:
        with pytest.raises(StoreRefused, match="holds no store yet"):
            await inspect_database(dsn)


async def test_a_database_that_is_away_is_one_clear_sentence(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_inspection, "CONNECTING_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(StoreRefused, match="see that PostgreSQL runs there") as refused:
        await inspect_database(f"postgresql://mo:secret@{address}/mo")

    assert "secret" not in str(refused.value)


def run(folder: Path, *flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "check", *flags]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=50, check=False
    )


def test_all_that_is_wrong_with_the_command_is_said_at_once(tmp_path: Path) -> None:
    ended = run(tmp_path, "--store", "mysql://mo:secret@h/mo", "--yaml", "more", env={"MO_SERVICE_LISTEN": "nowhere"})

    assert ended.returncode == 2
    for fault in ("--store", "--yaml", "more arguments"):
        assert fault in ended.stderr
    assert "nowhere" not in ended.stderr  # not its own
    assert "secret" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_flags_before_the_subcommand_are_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "--store", "sqlite:///mo.db", "check"]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)

    assert ended.returncode == 2
    assert "a subcommand goes before all flags" in ended.stderr


def test_a_store_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    ended = run(tmp_path)

    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "there is no var/mo.db" in line
    assert not list(tmp_path.iterdir())


def test_a_running_service_is_looked_over(service_process: Process, tmp_path: Path) -> None:
    ended = run(tmp_path, "--json", env={"MO_SERVICE_STORE": "sqlite:///mo.db"})

    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert found["findings"] == []
    assert {"name", "rows", "table_bytes", "index_bytes", "dead_rows"} == found["tables"][0].keys()
    assert found["content"] == {"destinations": [], "held": 0, "quarantined": 0, "quarantined_accepted": 0}


async def test_people_get_tables_and_what_to_do(path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(path, clock=clock)
    await fill(store, clock)
    await store.close()

    ended = await asyncio.to_thread(run, path.parent, "--store", "sqlite:///mo.db")

    assert (ended.returncode, ended.stderr) == (1, "")
    lines = ended.stdout.splitlines()
    assert "store" in lines[0]
    assert "sqlite:///mo.db" in lines[0]
    assert any(line.startswith("message ") for line in lines)
    assert "  to do: see why: mo dead-letter list --destination dying; then mo dead-letter redrive, or discard" in lines
    assert "whatsapp" not in ended.stdout


async def test_people_get_them_of_postgresql_too(dsn: str, tmp_path: Path) -> None:
    ended = await asyncio.to_thread(run, tmp_path, "--store", dsn)

    assert ended.stderr == ""
    assert any(line.startswith("synchronous commit") for line in ended.stdout.splitlines())
    assert any("lane_due" in line for line in ended.stdout.splitlines())
