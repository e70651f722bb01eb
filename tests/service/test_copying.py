"""A store that moves from SQLite to PostgreSQL: all of it, in order, or not at all."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import apsw
import asyncpg
import pytest

from service import copying
from service.copying import CopiedTable, copy_store
from service.errors import StoreRefused
from service.models import AckStatus, Conversation
from service.store.contract import Store
from service.store.migrations import load_migrations
from service.store.postgres import PostgresStore
from service.store.postgres import target as postgres_target
from service.store.postgres.target import PostgresTarget
from service.store.sqlite import SqliteStore
from service.store.sqlite.source import SqliteSource
from service.store.table_copy import plan_copy
from tests.postgres_server import Databases
from tests.service.builders import ManualClock, a_channel, a_message
from tests.service.consumers import Consumer
from tests.service.patience import open_patiently
from tests.service.rich_store import ERASED, Leased, fill, read_all

NEWEST = len(load_migrations("sqlite"))
MANY = 20
"""Messages of 1 MiB: more than are copied at once."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mo.db"


@pytest.fixture
async def target(postgres: Databases) -> AsyncIterator[str]:
    """A database with nothing in it."""
    async with postgres.empty_database() as dsn:
        yield dsn


@asynccontextmanager
async def sqlite_store(path: Path, clock: ManualClock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(path, clock=clock)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def postgres_store(dsn: str, clock: ManualClock) -> AsyncIterator[PostgresStore]:
    store = await open_patiently(dsn, clock)
    try:
        yield store
    finally:
        await store.close()


async def copy(path: Path, dsn: str, advance: Callable[[int], None] = lambda _: None) -> dict[str, int]:
    """Copy, and return how many rows each table has."""
    source = SqliteSource.open(path)
    try:
        target = await PostgresTarget.open(dsn)
        try:
            copied: list[CopiedTable] = list(await copy_store(source, target, advance))
        finally:
            target.close()
    finally:
        source.close()
    return {name: content.rows for name, content in copied}


async def fetch(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


@pytest.fixture
async def leased(path: Path, clock: ManualClock) -> Leased:
    """A store with something of everything, closed; and what consumers had of it."""
    async with sqlite_store(path, clock) as store:
        return await fill(store, clock)


async def take_all(store: Store, clock: ManualClock) -> dict[str, list[int]]:
    """What consumers of every destination take from now on, in order."""
    clock.advance(3600)
    return {status.name: await Consumer(store, status.name).take_all() for status in await store.list_destinations()}


async def test_the_contract_tells_the_same_of_both_stores(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    await copy(path, target)

    async with sqlite_store(path, clock) as old, postgres_store(target, clock) as new:
        assert await read_all(new) == await read_all(old)
        now = clock.now
        taken = await take_all(old, clock)
        clock.now = now
        assert await take_all(new, clock) == taken
        assert sum(len(sequences) for sequences in taken.values()) > 10


async def test_every_table_has_rows_in_the_store_that_proves_it(leased: Leased, path: Path) -> None:
    source = SqliteSource.open(path)
    try:
        assert [table for table in source.tables if not source.count(table)] == []
    finally:
        source.close()


async def test_no_table_column_or_sequence_is_forgotten(path: Path, dsn: str, clock: ManualClock) -> None:
    async with sqlite_store(path, clock):
        pass
    source, target = SqliteSource.open(path), await PostgresTarget.open(dsn)
    try:
        tables = plan_copy(source.tables, target.tables)
        covered = {name for _, _, name in await target.load_sequences()}
    finally:
        source.close()
        target.close()

    rows = await fetch(
        dsn,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name <> 'schema_version'",
    )
    assert {(table.name, column) for table in tables for column in table.columns} == {tuple(row) for row in rows}
    sequences = await fetch(dsn, "SELECT relname FROM pg_class WHERE relkind = 'S'")
    assert {name.removeprefix("public.") for name in covered} == {name for (name,) in sequences}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"message": ["a"], "new": ["b"]}, {"message": {"a": "text"}}),
        ({"message": ["a"]}, {"message": {"a": "text"}, "new": {"b": "text"}}),
        ({"message": ["a", "new"]}, {"message": {"a": "text"}}),
        ({"message": ["a"]}, {"message": {"a": "text", "new": "text"}}),
        ({"message": ["new"]}, {"message": {"new": "inet"}}),
    ],
)
def test_what_only_one_store_has_stops_the_copy(
    source: dict[str, list[str]], target: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(StoreRefused, match="new"):
        plan_copy(source, target)


async def test_leases_go_on_in_the_copy(leased: Leased, path: Path, target: str, clock: ManualClock) -> None:
    await copy(path, target)

    async with postgres_store(target, clock) as store:
        assert await Consumer(store, "bot").ack(leased.by_bot) is AckStatus.OK
        assert await Consumer(store, "bot").ack(leased.by_bot) is AckStatus.STALE
        assert await Consumer(store, "unordered").ack(leased.unordered) is AckStatus.OK


async def test_what_comes_after_the_copy_is_numbered_behind_it(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    async with sqlite_store(path, clock) as old:
        (last,) = await old.record([a_message("last")])
        await old.erase_sender(Conversation("C1", "whatsapp:+1"), limit=1000)  # its number isn't used again
        position = (await old.find_changes(None, limit=100)).position
        entries = await old.list_audit(None, before=None, limit=1)
    await copy(path, target)

    async with postgres_store(target, clock) as new:
        (next_one,) = await new.record([a_message("next", sender="whatsapp:+9", received_at=clock.now)])
        await new.create_channel(a_channel("C9"))
        changes = await new.find_changes(position, limit=100)
        newer = await new.list_audit(None, before=None, limit=1)

    assert next_one.sequence > last.sequence
    assert [channel.channel_config_id for channel in changes.channels] == ["C9"]
    assert changes.position.directory_id == position.directory_id
    assert newer[0].number > entries[0].number


async def test_who_was_erased_stays_out_of_the_copy(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    await copy(path, target)

    async with postgres_store(target, clock) as store:
        (recorded,) = await store.record([a_message("late", sender=ERASED.sender)])
        assert recorded.is_erased


async def test_a_database_that_has_our_schema_and_nothing_in_it_is_empty(
    leased: Leased, path: Path, dsn: str, clock: ManualClock
) -> None:
    async with postgres_store(dsn, clock) as store:
        await store.check_alive()

    assert (await copy(path, dsn))["message"] > 0


class Stopped(Exception):
    """Somebody stopped the copy."""


def stopping_after(rows: int) -> Callable[[int], None]:
    """Stop a copy after so many rows that were copied or compared."""
    left = rows

    def advance(count: int) -> None:
        nonlocal left
        left -= count
        if left <= 0:
            raise Stopped

    return advance


async def stop_a_copy(path: Path, dsn: str, rows: int) -> None:
    with pytest.raises(Stopped):
        await copy(path, dsn, stopping_after(rows))


def count_rows(path: Path) -> int:
    source = SqliteSource.open(path)
    try:
        return sum(source.count(table) for table in source.tables)
    finally:
        source.close()


async def test_a_copy_goes_on_where_it_was_stopped(
    leased: Leased, path: Path, target: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH_ROWS", 7)
    rows = count_rows(path)
    for stop in (1, rows // 3, rows // 2, rows, rows + rows // 2):
        await stop_a_copy(path, target, stop)
        with pytest.raises(StoreRefused, match="run the same mo-service copy again"):
            await PostgresStore.open(target)

    await copy(path, target)

    async with sqlite_store(path, clock) as old, postgres_store(target, clock) as new:
        assert await read_all(new) == await read_all(old)


async def test_a_copy_that_differs_fails_and_names_the_table(leased: Leased, path: Path, target: str) -> None:
    await stop_a_copy(path, target, count_rows(path) + 1)
    await fetch(target, "UPDATE message SET payload = payload || '\\x00' WHERE message_sid = 'M3'")

    with pytest.raises(StoreRefused, match="the copy of message differs"):
        await copy(path, target)

    with pytest.raises(StoreRefused, match="was not finished"):
        await PostgresStore.open(target)


async def test_a_copy_does_not_go_on_with_a_source_that_was_used_meanwhile(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    await stop_a_copy(path, target, 20)
    async with sqlite_store(path, clock) as store:
        clock.advance(1)
        await store.check_alive()

    with pytest.raises(StoreRefused, match="the source was used after that copy began"):
        await copy(path, target)


async def test_a_store_in_use_is_not_copied(path: Path, target: str, clock: ManualClock) -> None:
    async with sqlite_store(path, clock):
        with pytest.raises(StoreRefused, match="stop it first"):
            await copy(path, target)


async def test_no_service_starts_on_a_store_that_is_being_copied(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock):
        pass
    source = SqliteSource.open(path)
    try:
        with pytest.raises(StoreRefused, match="another mo-service"):
            SqliteStore.open(path)
    finally:
        source.close()


async def set_schema(path: Path, version: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE schema_version SET version = ?", (version,))
    connection.close()


@pytest.mark.parametrize(
    ("version", "way_out"), [(NEWEST - 1, "start this one on it once"), (NEWEST + 1, "copy with a newer one")]
)
async def test_a_source_of_another_schema_is_refused(
    path: Path, clock: ManualClock, version: int, way_out: str
) -> None:
    async with sqlite_store(path, clock):
        pass
    await set_schema(path, version)

    with pytest.raises(StoreRefused, match=way_out):
        SqliteSource.open(path)


@pytest.mark.parametrize("content", [None, b"", b"something else, of some length " * 100])
def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StoreRefused, match=r"other\.db"):
        SqliteSource.open(path)

    assert path.exists() is (content is not None)


async def test_a_target_that_holds_something_is_refused(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    await copy(path, target)

    with pytest.raises(StoreRefused, match="give an empty database"):
        await copy(path, target)

    async with sqlite_store(path, clock) as old, postgres_store(target, clock) as new:
        assert await read_all(new) == await read_all(old)


async def test_a_database_of_another_program_is_refused(leased: Leased, path: Path, target: str) -> None:
    await fetch(target, "CREATE TABLE theirs (id int)")

    with pytest.raises(StoreRefused, match="another program"):
        await copy(path, target)


async def test_a_target_that_a_service_runs_on_is_refused(
    leased: Leased, path: Path, dsn: str, clock: ManualClock
) -> None:
    async with postgres_store(dsn, clock) as store:
        await store.check_alive()
        with pytest.raises(StoreRefused, match="a mo-service is running on"):
            await copy(path, dsn)


async def test_two_copies_into_one_database_are_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await PostgresTarget.open(dsn)
    monkeypatch.setattr(postgres_target, "SESSION", postgres_target.SESSION.replace("30s", "10ms"))
    try:
        with pytest.raises(StoreRefused, match="another mo-service copy is running"):
            await PostgresTarget.open(dsn)
    finally:
        first.close()


@asynccontextmanager
async def role(dsn: str) -> AsyncIterator[tuple[str, str]]:
    """A role with no rights: its name, and the DSN with it."""
    name = f"mo_test_role_{uuid4().hex}"
    await fetch(dsn, f"CREATE ROLE {name} LOGIN PASSWORD 'throw-away'")
    parts = urlsplit(dsn)
    try:
        yield name, urlunsplit(parts._replace(netloc=f"{name}:throw-away@{parts.netloc.rpartition('@')[2]}"))
    finally:
        await fetch(dsn, f"ALTER DATABASE {parts.path[1:]} OWNER TO CURRENT_USER")
        await fetch(dsn, f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        await fetch(dsn, f"DROP ROLE {name}")


async def test_a_role_without_rights_is_refused_with_what_it_needs(leased: Leased, path: Path, target: str) -> None:
    async with role(target) as (_, dsn):
        with pytest.raises(StoreRefused, match="OWNER TO") as refused:
            await copy(path, dsn)
        assert "throw-away" not in str(refused.value)


async def test_the_owner_of_the_database_needs_no_more_rights(
    leased: Leased, path: Path, target: str, clock: ManualClock
) -> None:
    async with role(target) as (name, dsn):
        await fetch(target, f"ALTER DATABASE {urlsplit(target).path[1:]} OWNER TO {name}")

        await copy(path, dsn)

        async with sqlite_store(path, clock) as old, postgres_store(dsn, clock) as new:
            assert await read_all(new) == await read_all(old)


async def test_a_store_of_another_schema_is_no_target_and_left_alone(leased: Leased, path: Path, dsn: str) -> None:
    await fetch(dsn, "UPDATE schema_version SET version = 1")

    with pytest.raises(StoreRefused, match="has schema 1 already"):
        await copy(path, dsn)

    assert (await fetch(dsn, "SELECT version FROM schema_version"))[0]["version"] == 1


async def test_a_database_that_is_away_is_one_clear_sentence(
    leased: Leased, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_target, "CONNECTING_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(StoreRefused, match="run the same command again") as refused:
        await copy(path, f"postgresql://mo:secret@{address}/mo")
    assert "secret" not in str(refused.value)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "service", "copy", *map(str, arguments)]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def test_all_that_is_wrong_with_the_command_is_said_at_once(tmp_path: Path) -> None:
    ended = run(tmp_path, "postgresql://mo:secret@h/mo", "sqlite:///there.db", "--fast", "more")

    assert ended.returncode == 2
    for fault in ("SOURCE", "TARGET", "--fast", "more arguments"):
        assert fault in ended.stderr
    assert "secret" not in ended.stderr
    assert not list(tmp_path.iterdir())


async def test_a_refusal_is_one_clear_line(tmp_path: Path, target: str) -> None:
    ended = await asyncio.to_thread(run, tmp_path, "sqlite:///nothing.db", target)

    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "there is no nothing.db" in line


# Holds the copy in the middle of a table, for as long as somebody has the lock.
GATE = """
CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.sequence = {sequence} THEN PERFORM pg_advisory_xact_lock(4711); END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER gate BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION wait_at_the_gate();
"""
AT_THE_GATE = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted)"


async def fill_with_large_messages(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock) as store:
        for number in range(MANY):
            await store.record([a_message(f"SM{number}", sender=f"whatsapp:+{number % 5}", payload=bytes(2**20))])


async def heads(store: Store) -> list[tuple[int, bytes]]:
    return [(delivery.sequence, delivery.payload) for delivery in await Consumer(store).take()]


async def test_a_copy_that_was_killed_ends_right_when_it_runs_again(path: Path, dsn: str, clock: ManualClock) -> None:
    await fill_with_large_messages(path, clock)
    keeper = await asyncpg.connect(dsn)
    await keeper.execute(GATE.format(sequence=MANY - 1))
    await keeper.execute("SELECT pg_advisory_lock(4711)")

    process = await asyncio.create_subprocess_exec(*command(f"sqlite:///{path}", dsn))
    while not await keeper.fetchval(AT_THE_GATE):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    done = await keeper.fetchval("SELECT rows FROM copy_progress WHERE table_name = 'message'")
    assert 0 < done < MANY
    await keeper.execute("SELECT pg_advisory_unlock(4711)")
    await keeper.execute("DROP TRIGGER gate ON message; DROP FUNCTION wait_at_the_gate")
    await keeper.close()

    ended = await asyncio.to_thread(run, path.parent, f"sqlite:///{path}", dsn)

    assert (ended.returncode, ended.stderr.count("Traceback")) == (0, 0), ended.stderr
    assert [line.split()[:2] for line in ended.stdout.splitlines() if line.startswith("message")] == [
        ["message", str(MANY)]
    ]
    assert "--secrets-key" in ended.stderr
    async with sqlite_store(path, clock) as old, postgres_store(dsn, clock) as new:
        assert await read_all(new) == await read_all(old)
        assert await heads(new) == await heads(old)
