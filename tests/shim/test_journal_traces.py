"""What was handed over leaves no word in the journal's files."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import grpc
import pytest

from tests.shim.caller import FORM
from tests.shim.fake_service import FakeService
from tests.shim.journals import Host, append, message, until
from tests.shim.running import OpenShim

PLANTED = "Quetzalcoatlus"


@pytest.fixture
async def host(tmp_path: Path, service: FakeService) -> AsyncIterator[Host]:
    host = Host(tmp_path / "journal", service)
    yield host
    await host.close()


def find_words(folder: Path) -> list[str]:
    """Return the files in which a planted word is to be read."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
            if path.is_file() and PLANTED.encode() in path.read_bytes():
                found.append(path.name)
    return found


def planted(sid: str, size: int) -> bytes:
    return message(sid, body=PLANTED * (1 + size // len(PLANTED)))


@pytest.mark.parametrize("size", [10, 1_500, 60_000])
async def test_the_file_of_a_worker_that_lives_holds_nothing_of_what_was_handed_over(
    host: Host, service: FakeService, size: int
) -> None:
    journal = host.open_journal()
    async with host.draining():
        for start in range(0, 200, 50):
            service.ingest_failure = grpc.StatusCode.UNAVAILABLE
            await append(journal, *[planted(f"SM{number}", size) for number in range(start, start + 50)])
            assert find_words(host.folder)
            service.ingest_failure = None
            await host.wait_until_empty()
        await until(lambda: not find_words(host.folder))
        assert (host.folder / "0.db").exists()
    assert len(host.delivered) == 200


async def test_what_was_kept_aside_leaves_nothing_once_the_service_took_it(host: Host, service: FakeService) -> None:
    service.poison = {"SM1": grpc.StatusCode.INTERNAL}
    service.quarantine_failure = grpc.StatusCode.INTERNAL
    journal = host.open_journal()
    await append(journal, planted("SM1", 10_000), message("SM2"))
    await host.hand_over()
    await journal.close()
    assert find_words(host.folder) == ["handed.db"]
    service.poison = {}
    await host.hand_over()
    assert find_words(host.folder) == []


async def test_no_file_of_a_shim_holds_a_word_after_the_service_was_away(
    open_shim_with: OpenShim, tmp_path: Path, service: FakeService
) -> None:
    async with open_shim_with() as shim:
        service.ingest_failure = service.quarantine_failure = grpc.StatusCode.UNAVAILABLE
        for number in range(20):
            form = FORM | {"MessageSid": f"SM{number}", "Body": PLANTED * 100}
            assert (await shim.post(form)).status == 204
        assert (await shim.post({"From": PLANTED})).status == 400
        assert find_words(tmp_path)
        service.ingest_failure = service.quarantine_failure = None
        await shim.events.wait_for("journal_empty")
        await until(lambda: len(service.quarantined) == 1 and not find_words(tmp_path))


async def test_a_reader_does_not_keep_the_words_for_ever(host: Host) -> None:
    """A drainer may read just when the worker would empty the WAL: then it is emptied a second later."""
    journal = host.open_journal()
    await append(journal, planted("SM1", 5_000))
    reader = apsw.Connection(str(host.folder / "0.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = reader.execute("SELECT payload FROM entry UNION ALL SELECT 1")
    next(rows)
    async with host.draining():
        await host.wait_until_empty()
        await append(journal, planted("SM2", 5_000))  # the writer isn't held up
        await host.wait_until_empty()
        assert find_words(host.folder)
        reader.close(force=True)
        await until(lambda: not find_words(host.folder))
