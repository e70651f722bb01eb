"""Which files a service may open, and that it leaves those alone which it may not."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import apsw
import pytest

from service.errors import StoreRefused
from service.models import HeldSelection
from service.store.migrations import load_migrations
from service.store.sqlite import SqliteStore
from service.store.sqlite.schema import APPLICATION_ID
from tests.service.builders import a_channel, a_message


async def make_store(path: Path) -> None:
    store = SqliteStore.open(path)
    await store.create_channel(a_channel())
    await store.record([a_message("SM1")])
    await store.close()


def set_schema_version(path: Path, *, version: int, oldest_code: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE schema_version SET version = ?, oldest_code = ?", (version, oldest_code))
    connection.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def modes_in(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


def open_to_others(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o644)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    await make_store(tmp_path / "mo.db")

    store = SqliteStore.open(tmp_path / "mo.db")

    assert await store.find_message("C1", "SM1") is not None
    assert len(await store.list_channels(after="", limit=10)) == 1
    await store.close()


async def test_a_closed_store_has_no_wal_left(tmp_path: Path) -> None:
    await make_store(tmp_path / "mo.db")

    assert names_in(tmp_path) == ["mo.db", "mo.db.lock"]


async def test_a_second_service_on_the_same_file_is_refused(tmp_path: Path) -> None:
    first = SqliteStore.open(tmp_path / "mo.db")

    with pytest.raises(StoreRefused, match="another mo-service is using"):
        SqliteStore.open(tmp_path / "mo.db")

    await first.close()
    await SqliteStore.open(tmp_path / "mo.db").close()


async def test_a_store_that_requires_newer_code_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "mo.db"
    await make_store(path)
    newest = len(load_migrations("sqlite"))
    set_schema_version(path, version=newest + 2, oldest_code=newest + 1)
    before = digest(path)

    with pytest.raises(StoreRefused, match="start a newer mo-service"):
        SqliteStore.open(path)

    assert digest(path) == before


async def test_a_newer_store_that_older_code_may_use_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "mo.db"
    await make_store(path)
    newest = len(load_migrations("sqlite"))
    set_schema_version(path, version=newest + 1, oldest_code=newest)

    store = SqliteStore.open(path)

    assert await store.find_message("C1", "SM1") is not None
    await store.close()


@pytest.mark.parametrize("kind", ["another program's", "none at all"])
async def test_a_file_that_is_not_ours_is_refused_untouched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mo.db"
    if kind == "none at all":
        path.write_bytes(b"my precious notes" * 1000)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    before = digest(path)

    with pytest.raises(StoreRefused, match="give another --store"):
        SqliteStore.open(path)

    assert digest(path) == before


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreRefused, match="give a --store in a folder that can be written"):
        SqliteStore.open(tmp_path / "file" / "mo.db")


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.number for migration in load_migrations("sqlite")] == list(
        range(1, len(load_migrations("sqlite")) + 1)
    )


async def test_a_store_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mo.db"
    connection = apsw.Connection(str(path))
    connection.execute(load_migrations("sqlite")[0].sql)
    connection.execute("CREATE TABLE schema_version (version INTEGER, oldest_code INTEGER) STRICT")
    connection.execute("INSERT INTO schema_version VALUES (1, 1)")
    connection.execute("INSERT INTO message VALUES (7, 'C1', 'SM1', 'whatsapp:+1', 5, 'UNROUTED', '', 0, '[]', x'00')")
    connection.pragma("application_id", APPLICATION_ID)
    connection.close()

    store = SqliteStore.open(path)

    assert [message.sequence for message in await store.find_held(HeldSelection(), after=0, limit=10)] == [7]
    (activity,) = (await store.load_summary(most_channels=10)).channels
    assert (activity.last_message_at, activity.messages) == (5, 1)
    await store.close()


async def test_a_file_that_somebody_left_open_to_others_is_closed(tmp_path: Path) -> None:
    await make_store(tmp_path / "mo.db")
    open_to_others(tmp_path)

    store = SqliteStore.open(tmp_path / "mo.db")

    assert modes_in(tmp_path) == dict.fromkeys(("mo.db", "mo.db-shm", "mo.db-wal", "mo.db.lock"), "0o600")
    await store.close()


async def test_a_file_that_is_not_ours_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
    path.chmod(0o644)

    with pytest.raises(StoreRefused):
        SqliteStore.open(path)

    assert path.stat().st_mode & 0o777 == 0o644
