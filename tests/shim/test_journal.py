"""One worker's journal: what is on disk when it says so, its bounds, and its place among others."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from shim.errors import StartError
from shim.journal import EntryKind, JournalError, JournalFullError, Marks
from tests.shim.fake_service import FakeService
from tests.shim.journals import Host, append, append_all, message
from tests.shim.running import Events


@pytest.fixture
async def host(tmp_path: Path, service: FakeService) -> AsyncIterator[Host]:
    host = Host(tmp_path / "journal", service)
    yield host
    await host.close()


async def test_what_was_kept_is_handed_over_by_the_next_process_in_its_order(host: Host) -> None:
    journal = host.open_journal()
    await append_all(journal, *[f"SM{number}" for number in range(1_200)])
    await journal.close()
    assert await host.hand_over() == [f"SM{number}" for number in range(1_200)]
    assert set(host.service.from_journal) == {True}


async def test_the_marks_say_that_something_waits_before_the_caller_hears_of_it(host: Host) -> None:
    journal = host.open_journal()
    assert host.marks.is_empty()
    seen: list[bool] = []
    settled = asyncio.Event()
    other = Marks(host.folder)

    def settle(error: JournalError | None) -> None:
        seen.append(error is None and not other.is_empty())
        settled.set()

    journal.append(EntryKind.MESSAGE, message("SM1"), settle)
    assert seen == []
    await settled.wait()
    assert seen == [True]
    other.close()
    await journal.close()


async def test_a_journal_that_closes_writes_what_waits_and_takes_no_more(host: Host) -> None:
    journal = host.open_journal()
    waiting = asyncio.create_task(append(journal, *[message(f"SM{number}") for number in range(700)]))
    await asyncio.sleep(0)
    await journal.close()
    assert set(await waiting) == {None}
    with pytest.raises(JournalError):
        journal.append(EntryKind.MESSAGE, b"", lambda _: None)
    assert len(await host.hand_over()) == 700


async def test_past_the_bound_of_the_host_nothing_more_is_taken_until_there_is_room(host: Host) -> None:
    journal, other = host.open_journal(0, max_bytes=20_000), host.open_journal(1, max_bytes=20_000)
    large = message("SM1", body="x" * 9_000)
    await append(journal, large)
    await append(other, large)
    for each in (journal, other):
        with pytest.raises(JournalFullError):
            each.append(EntryKind.MESSAGE, large, lambda _: None)
    await host.hand_over()
    assert await append(journal, large) == [None]
    await journal.close()
    await other.close()


async def test_what_may_wait_for_the_disk_is_bounded(host: Host) -> None:
    journal = host.open_journal()
    large = b"x" * 2**20
    for _ in range(31):
        journal.append(EntryKind.QUARANTINE, large, lambda _: None)
    with pytest.raises(JournalFullError):
        journal.append(EntryKind.QUARANTINE, large, lambda _: None)
    await journal.close()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 256 KiB, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_is_said_and_a_later_entry_is_kept(host: Host, small_files: None, events: Events) -> None:
    journal = host.open_journal()
    kept = [
        f"SM{number}"
        for number in range(40)
        if await append(journal, message(f"SM{number}", body="x" * 20_000)) == [None]
    ]
    assert 5 < len(kept) < 40
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    await append_all(journal, "SM-after")
    await journal.close()
    assert [sid for sid in await host.hand_over() if sid in kept] == kept
    assert "SM-after" in host.delivered
    assert events.count("journal_broken") >= 1


async def test_a_taken_slot_leaves_the_next_one(host: Host) -> None:
    first, second = host.open_journal(3), host.open_journal(3)
    assert (first.slot, second.slot) == (3, 4)
    await append_all(second, "SM1")
    await first.close()
    await second.close()
    again = host.open_journal(3)
    assert again.slot == 3
    await again.close()
    assert await host.hand_over() == ["SM1"]


async def test_numbers_go_on_when_everything_was_handed_over_and_deleted(host: Host) -> None:
    for number in range(3):
        journal = host.open_journal()
        await append_all(journal, f"SM{number}")
        await journal.close()
        await host.hand_over()
    assert host.delivered == ["SM0", "SM1", "SM2"]
    assert host.marks.is_empty()
    assert not list(host.folder.glob("*.db-wal"))
    assert [path.name for path in host.folder.glob("*.db")] == ["handed.db"]


async def test_the_file_of_a_worker_gives_back_what_was_handed_over(host: Host) -> None:
    journal = host.open_journal()
    for start in range(0, 4_000, 1_000):
        await append_all(journal, *[f"SM{number}" for number in range(start, start + 1_000)])
    await host.hand_over()
    await append_all(journal, "SM-last")
    await journal.close()
    assert (host.folder / "0.db").stat().st_size < 300_000
    assert (await host.hand_over())[-1] == "SM-last"


async def test_a_clock_that_steps_back_does_not_reorder(host: Host) -> None:
    times = {0: 2_000, 1: 1_000}
    first = host.open_journal(0, clock=lambda: times[0])
    second = host.open_journal(1, clock=lambda: times[1])
    for number in range(10):
        await append_all(first if number % 2 == 0 else second, f"SM{number}")
    await first.close()
    await second.close()
    assert await host.hand_over() == [f"SM{number}" for number in range(10)]


class BrokenSync(apsw.VFS):
    """The default one, while it lasts, whose next sync can be made to fail."""

    def __init__(self) -> None:
        super().__init__("broken-sync", "unix", makedefault=True)
        self.is_broken = False

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return BrokenSyncFile(self, name, flags)


class BrokenSyncFile(apsw.VFSFile):
    def __init__(self, vfs: BrokenSync, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._vfs.is_broken:
            self._vfs.is_broken = False
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)


async def test_nothing_is_appended_behind_what_could_not_be_synced(host: Host, events: Events) -> None:
    vfs = BrokenSync()
    try:
        journal = host.open_journal()
        await append_all(journal, "SM1")
        vfs.is_broken = True
        (error,) = await append(journal, message("SM2"))
        assert isinstance(error, JournalError)
        await append_all(journal, "SM3")
        assert list(host.folder.glob("0.torn-1.db"))
        await journal.close()
    finally:
        vfs.unregister()
    # What was refused may come too: it was on its way to the disk.
    assert [sid for sid in await host.hand_over() if sid != "SM2"] == ["SM1", "SM3"]
    assert host.marks.is_empty()


def test_the_marks_have_their_room_on_disk_before_they_are_used(tmp_path: Path) -> None:
    """Written into a hole on a full disk, a mapped file would end the process with SIGBUS."""
    Marks(tmp_path).close()
    status = (tmp_path / "marks").stat()
    assert status.st_blocks * 512 >= status.st_size > 0


async def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("")
    with pytest.raises(StartError, match="--state-dir"):
        Marks(tmp_path / "journal")


def test_that_nothing_waits_costs_next_to_nothing_to_know(tmp_path: Path) -> None:
    code = (
        "import sys, timeit; from pathlib import Path; from shim.journal import Marks;"
        "marks = Marks(Path(sys.argv[1])); print(min(timeit.repeat(marks.is_empty, number=20000, repeat=5)) / 20000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2e-6
