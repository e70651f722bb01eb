"""One round of the accounting test: people write, consumers take, things break; then the books are compared."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryStub
from aicc.mo.v1.message_archive_pb2_grpc import MessageArchiveStub
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.chaos import LINK, PROCESSES, TOGETHER, Chaos, FaultKind
from tests.faults.consumers import CHANNEL_OPTIONS, MANNERS, Consumer
from tests.faults.gateway import Gateway
from tests.faults.ledger import Archived, Ledger, Verdict
from tests.faults.senders import PASSWORD, USER, Answers, Sender, Traffic

_LOOK_SECONDS = 0.1
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True)
class Plan:
    """What a round does."""

    seed: str
    channel: str = "C1"
    traffic: Traffic = field(default_factory=Traffic)
    faults: Sequence[FaultKind] = (*LINK, *PROCESSES)
    times_each: int = 1
    settle_seconds: float = 60.0
    """How long it may take, once everything is well again, until all is delivered."""


@dataclass
class Round:
    """A round that goes on, or is over: then it has a verdict."""

    plan: Plan
    ledger: Ledger = field(default_factory=Ledger)
    answers: Answers = field(default_factory=Answers)
    faults: Counter[FaultKind] = field(default_factory=Counter)
    started_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    settle_seconds: float = 0.0
    recovered: int = 0
    """How many messages came out of a journal."""
    verdict: Verdict | None = None
    _calm: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, gateway: Gateway) -> None:
        """Do all of it, and judge."""
        await gateway.wait_until_ready()
        async with _connected(gateway.target) as channel:
            await self._create_channel(ChannelDirectoryStub(channel))
            async with self._consuming(channel):
                await self._write_while_it_breaks(gateway)
                self.settle_seconds = -time.monotonic()
                await self._settle(gateway, MessageFeedStub(channel))
                self.settle_seconds += time.monotonic()
            archive = MessageArchiveStub(channel)
            self.recovered = await self._load_recovered(archive)
            self.verdict = self.ledger.judge(await self._load_archive(archive))
        self.ended_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return (self.ended_at or time.monotonic()) - self.started_at

    @property
    def is_clean(self) -> bool:
        """Whether it is judged, and nothing was wrong with the books or the answers."""
        is_balanced = self.verdict is not None and self.verdict.is_clean
        return is_balanced and not self.unexpected_statuses and not self.answers.needless

    @property
    def unexpected_statuses(self) -> dict[int, int]:
        """Answers that Twilio must not get from us for a good message, however ill we are."""
        return {status: count for status, count in self.answers.statuses.items() if status not in {204, 503}}

    async def _create_channel(self, directory: ChannelDirectoryStub) -> None:
        name = self.plan.channel
        channel = directory_pb.Channel(channel_config_id=name, webhook_user=USER, destination=name)
        await directory.CreateChannel(directory_pb.CreateChannelRequest(channel=channel, password=PASSWORD))

    @asynccontextmanager
    async def _consuming(self, channel: grpc.aio.Channel) -> AsyncIterator[None]:
        feed, plan = MessageFeedStub(channel), self.plan
        consumers = [
            Consumer(
                feed,
                plan.channel,
                manner=manner,
                ledger=self.ledger,
                calm=self._calm,
                seed=f"{plan.seed} consumer {number}",
            )
            for number, manner in enumerate(MANNERS)
        ]
        tasks = [asyncio.create_task(consumer.consume()) for consumer in consumers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise AssertionError("a consumer gave up") from end

    async def _write_while_it_breaks(self, gateway: Gateway) -> None:
        plan = self.plan
        senders = [
            Sender(
                gateway,
                channel=plan.channel,
                number=number,
                ledger=self.ledger,
                answers=self.answers,
                seed=plan.seed,
            )
            for number in range(plan.traffic.conversations)
        ]
        async with asyncio.TaskGroup() as writing:
            for sender in senders:
                writing.create_task(sender.write(plan.traffic, self._calm))
            async with asyncio.TaskGroup() as breaking:
                for number, kinds in enumerate(TOGETHER):
                    chosen = [kind for kind in plan.faults if kind in kinds]
                    chaos = Chaos(gateway, chosen, f"{plan.seed} {number}", self.faults)
                    breaking.create_task(chaos.disturb(rounds=plan.times_each))
            self._calm.set()

    async def _settle(self, gateway: Gateway, feed: MessageFeedStub) -> None:
        """Wait until everything is delivered and acknowledged and no journal holds anything, or the time is over."""
        deadline = time.monotonic() + self.plan.settle_seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.ledger.undelivered or await _count_journalled(gateway) != 0:
                continue
            if not await self._load_backlog(feed):
                return

    async def _load_backlog(self, feed: MessageFeedStub) -> int:
        response = await _ask(feed.ListDestinations, feed_pb.ListDestinationsRequest())
        return sum(each.backlog for each in response.destinations if each.name == self.plan.channel)

    async def _load_recovered(self, archive: MessageArchiveStub) -> int:
        summary = await _ask(archive.GetSummary, archive_pb.GetSummaryRequest())
        return sum(each.recovered for each in summary.channels if each.channel_config_id == self.plan.channel)

    async def _load_archive(self, archive: MessageArchiveStub) -> list[Archived]:
        request = archive_pb.ListMessagesRequest(
            channel_config_id=self.plan.channel, include_text=True, page_size=1_000
        )
        found: list[Archived] = []
        while True:
            page = await _ask(archive.ListMessages, request)
            found += [
                Archived(each.message.message_sid, each.message.sender, each.message.body, each.sequence)
                for each in page.messages
            ]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield channel


async def _ask(
    call: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, *, tries: int = 20
) -> _Response:
    """Ask a service that may just have come back."""
    for _ in range(tries):
        try:
            return await call(request, wait_for_ready=True, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
            await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError("the service doesn't come back")


async def _count_journalled(gateway: Gateway) -> int | None:
    """Ask the shims how many messages wait in their hosts' journals; None when one can't tell just now."""
    count = 0
    for text in await gateway.ask_shims("/metrics"):
        if text is None:
            return None
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        count += sum(int(sample.value) for sample in samples if sample.name == "mo_journal_messages")
    return count
