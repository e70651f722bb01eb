"""Journals that a disk, or somebody, changed: what is readable is delivered, and the shim starts in any case."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim.journal.entry_file import DamagedError, EntryFile, move_aside
from shim.journal.progress import Progress
from shim.journal.raw_pages import read_entries
from shim.journal.source import Source
from tests.shim.fake_service import FakeService
from tests.shim.journals import Host, append, append_all, message, sid_of
from tests.shim.running import Events

PAGE = 4096
SIDS = [f"SM{number}" for number in range(400)]
LARGE = {"SM7", "SM200", "SM399"}
"""Those that don't fit into a page."""


@pytest.fixture
async def host(tmp_path: Path, service: FakeService) -> AsyncIterator[Host]:
    host = Host(tmp_path / "journal", service)
    yield host
    await host.close()


async def fill(host: Host, *, is_checkpointed: bool) -> None:
    """Leave a file as a killed worker leaves it, with most in its WAL, or as one that ended leaves it."""
    journal = host.open_journal()
    for start in range(0, len(SIDS), 50):
        await append(
            journal, *[message(sid, body="x" * (9_000 if sid in LARGE else 200)) for sid in SIDS[start : start + 50]]
        )
    copies = {}
    if not is_checkpointed:
        copies = {path: path.read_bytes() for path in (host.folder / "0.db", host.folder / "0.db-wal")}
    await journal.close()
    for path, content in copies.items():
        path.write_bytes(content)


def change(path: Path, damage: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)


def flip(offset: int, bits: int = 0x10) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        if content:
            content[offset % len(content)] ^= bits

    return damage


def truncate(size: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        del content[size % (len(content) + 1) :]

    return damage


def find_readable(folder: Path) -> set[str]:
    """Return the messages that still lie whole in the file or its WAL."""
    return {sid_of(entry.payload) for entry in read_entries(folder / "0.db")}


async def assert_readable_is_delivered(host: Host, readable: set[str]) -> None:
    """The shim starts, takes new messages, and delivers in their order what is left of the old ones."""
    host.restart()
    drainer = host.open_drainer()
    journal = host.open_journal()
    await append_all(journal, "new")
    async with asyncio.timeout(50):
        await drainer.hand_over_all()
    await journal.close()
    delivered = host.delivered
    assert set(delivered) >= readable | {"new"}
    assert set(delivered) <= {*SIDS, "new"}
    assert [sid for sid in SIDS if sid in delivered] == delivered[:-1]


@pytest.mark.parametrize("page", range(0, 40, 3))
@pytest.mark.parametrize("offset", [0, 3, 60, 2_000, 4_090])
async def test_a_flipped_bit_costs_at_most_its_page(host: Host, page: int, offset: int) -> None:
    await fill(host, is_checkpointed=True)
    before = find_readable(host.folder)
    assert before == set(SIDS)
    change(host.folder / "0.db", flip(page * PAGE + offset))
    readable = find_readable(host.folder)
    assert len(before - readable) <= 20
    await assert_readable_is_delivered(host, readable)


@pytest.mark.parametrize("size", [0, 1, 100, PAGE, PAGE * 3 + 17, PAGE * 20, 100_000])
async def test_what_is_before_a_cut_is_delivered(host: Host, size: int) -> None:
    await fill(host, is_checkpointed=True)
    change(host.folder / "0.db", truncate(size))
    await assert_readable_is_delivered(host, find_readable(host.folder))


@pytest.mark.parametrize("offset", [0, 10, 40, 5_000, 50_000, 100_000, 140_000])
async def test_a_wal_with_a_flipped_bit_is_read_behind_it_too(host: Host, offset: int) -> None:
    await fill(host, is_checkpointed=False)
    change(host.folder / "0.db-wal", flip(offset))
    readable = find_readable(host.folder)
    assert len(readable) > 350
    await assert_readable_is_delivered(host, readable)


@pytest.mark.parametrize("size", [0, 31, 5_000, 50_000, 100_000])
async def test_a_wal_that_is_cut_off_costs_what_is_gone(host: Host, size: int) -> None:
    await fill(host, is_checkpointed=False)
    change(host.folder / "0.db-wal", truncate(size))
    await assert_readable_is_delivered(host, find_readable(host.folder))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(data=st.data())
async def test_whatever_happens_to_the_files_nothing_readable_is_lost(
    tmp_path_factory: pytest.TempPathFactory, service: FakeService, data: st.DataObject
) -> None:
    service.batches.clear()
    host = Host(tmp_path_factory.mktemp("damaged") / "journal", service)
    await fill(host, is_checkpointed=data.draw(st.booleans()))
    names = [name for name in ("0.db", "0.db-wal", "handed.db", "marks") if (host.folder / name).exists()]
    for _ in range(data.draw(st.integers(1, 3))):
        offset, bits = data.draw(st.integers(0, 2**20)), data.draw(st.integers(1, 255))
        damage = data.draw(st.sampled_from([flip(offset, bits), truncate(offset)]))
        change(host.folder / data.draw(st.sampled_from(names)), damage)
    readable = find_readable(host.folder)
    try:
        await assert_readable_is_delivered(host, readable)
    finally:
        await host.close()
        shutil.rmtree(host.folder)


async def test_the_damaged_file_is_kept_and_counted(host: Host, events: Events) -> None:
    await fill(host, is_checkpointed=True)
    change(host.folder / "0.db", flip(20 * PAGE + 1_000))
    async with asyncio.timeout(50):
        state = await host.open_drainer().hand_over_all()
    assert (state.damaged, state.messages) == (1, 0)
    assert events.count("journal_damaged") == 1
    assert {path.name for path in host.folder.glob("*.db*")} >= {"0.damaged-1.db"}
    assert not list(host.folder.glob("*recover*"))


async def test_what_was_handed_over_is_not_dug_out_again(host: Host) -> None:
    await fill(host, is_checkpointed=True)
    file = EntryFile(host.folder / "0.db", first_number=1)
    progress = Progress(host.folder)
    progress.record({file.file_id: 200})
    progress.close()
    file.close()
    content = (host.folder / "0.db").read_bytes()
    change(host.folder / "0.db", flip(content.index(b"SM300")))
    assert await host.hand_over() == [sid for sid in SIDS[200:] if sid != "SM300"]


async def test_a_worker_whose_file_breaks_under_it_goes_on_with_a_new_one(host: Host) -> None:
    journal = host.open_journal()
    await append_all(journal, *SIDS)
    await journal.close()
    journal = host.open_journal()
    change(host.folder / "0.db", lambda content: content.__setitem__(slice(PAGE, None), bytes(len(content) - PAGE)))
    host.marks.set_handed(0, len(SIDS))  # it deletes what was handed over, and finds out
    await append_all(journal, "new")
    assert list(host.folder.glob("0.torn-1.db"))
    assert await host.hand_over() == ["new"]
    await journal.close()


async def test_a_damaged_file_that_is_moved_aside_while_it_is_read_is_read_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.open_journal()
    await append_all(journal, "SM1", "SM2")
    await journal.close()

    def move_and_fail(source: Source, *_: object, **__: object) -> None:
        monkeypatch.undo()
        move_aside(source.path, host.folder / "0.torn-1.db")
        raise DamagedError("as told")

    monkeypatch.setattr(Source, "read", move_and_fail)
    assert await host.hand_over() == ["SM1", "SM2"]


async def test_damage_under_a_worker_that_lives_is_read_around(host: Host, events: Events) -> None:
    journal = host.open_journal()
    await append_all(journal, *SIDS)
    await journal.close()
    journal = host.open_journal()
    content = (host.folder / "0.db").read_bytes()
    change(host.folder / "0.db", flip(content.index(b"SM100")))
    assert set(await host.hand_over()) == {*SIDS} - {"SM100"}
    assert events.count("journal_damaged") == 1
    await append_all(journal, "new")
    assert "new" in await host.hand_over()
    await journal.close()
