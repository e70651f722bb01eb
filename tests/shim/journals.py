"""A journal's folder, its workers and its drainer, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aicc.mo.v1.message_ingest_pb2 import IngestBatchRequest
from prometheus_client import CollectorRegistry

from shim.journal import EntryKind, Journal, JournalError, Marks
from shim.journal.drainer import Drainer
from shim.link import Link
from shim.metrics import JournalMetrics
from tests.shim.fake_service import FakeService


def message(sid: str, *, sender: str = "whatsapp:+1", body: str | None = None) -> bytes:
    batch = IngestBatchRequest()
    batch.messages.add(
        channel_config_id="C1", message_sid=sid, sender=sender, receiver="r", message_type_name="text", body=body
    )
    return batch.SerializeToString()


def sid_of(payload: bytes) -> str:
    return IngestBatchRequest.FromString(payload).messages[0].message_sid


class Host:
    """What a host's processes share."""

    def __init__(self, folder: Path, service: FakeService) -> None:
        self.folder = folder
        self.service = service
        self.marks = Marks(folder)
        self.registry = CollectorRegistry()
        self.metrics = JournalMetrics(self.registry)
        self.link = Link(service.listen)
        self._journals: list[Journal] = []
        self._former_marks: list[Marks] = []

    def open_journal(self, slot: int = 0, *, max_bytes: int = 2**30, clock: Callable[[], int] | None = None) -> Journal:
        more = {"clock": clock} if clock else {}
        journal = Journal(
            self.folder, slot, self.marks, max_bytes=max_bytes, metrics=JournalMetrics(CollectorRegistry()), **more
        )
        self._journals.append(journal)
        return journal

    def open_drainer(self) -> Drainer:
        return Drainer(self.folder, self.marks, lambda: self.link, metrics=JournalMetrics(CollectorRegistry()))

    async def hand_over(self) -> list[str]:
        """Hand everything over; return the messages of the service, in the order in which they came first."""
        async with asyncio.timeout(50):
            await self.open_drainer().hand_over_all()
        return self.delivered

    @property
    def delivered(self) -> list[str]:
        return list(dict.fromkeys(message.message_sid for message in self.service.messages))

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[Drainer]:
        drainer = self.open_drainer()
        task = asyncio.create_task(drainer.run())
        try:
            yield drainer
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def wait_until_empty(self) -> None:
        await until(self.marks.is_empty)

    def restart(self) -> None:
        """Forget what is in memory, as another process would."""
        self._former_marks.append(self.marks)  # journals that a test left open still use them
        self.marks = Marks(self.folder)

    async def close(self) -> None:
        for journal in self._journals:
            await journal.close()
        await self.link.close()
        for marks in (*self._former_marks, self.marks):
            marks.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of: shared memory, and another process."""
    async with asyncio.timeout(50):
        while not condition():
            await _turn()


async def _turn() -> None:
    await asyncio.sleep(0.005)


async def append(
    journal: Journal, *payloads: bytes, kind: EntryKind = EntryKind.MESSAGE
) -> Sequence[JournalError | None]:
    """Append and wait until all of it is settled."""
    loop = asyncio.get_running_loop()
    outcomes: list[asyncio.Future[JournalError | None]] = []
    for payload in payloads:
        outcomes.append(loop.create_future())
        journal.append(kind, payload, outcomes[-1].set_result)
    return await asyncio.gather(*outcomes)


async def append_all(journal: Journal, *sids: str) -> None:
    assert set(await append(journal, *map(message, sids))) == {None}
