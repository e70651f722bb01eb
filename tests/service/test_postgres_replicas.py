"""Several replicas on one PostgreSQL: nothing is out of order, held twice, stuck or lost between them."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from service.models import (
    ClaimedDelivery,
    Conversation,
    HeldSelection,
    HoldReason,
    MessageFilter,
    RoutedMessage,
    Settlement,
    SettlementKind,
)
from service.store.postgres import PostgresStore
from tests.service.builders import a_channel, a_message
from tests.service.deliveries import deliver_all
from tests.service.patience import open_patiently

CONVERSATIONS = 16
MESSAGES = 25
WRITERS = 6
CONSUMERS = 3
"""Of each replica."""


@pytest.fixture
async def replicas(dsn: str) -> AsyncIterator[Sequence[PostgresStore]]:
    opened = [await open_patiently(dsn) for _ in range(2)]
    for replica in opened:
        await replica.connected()
    yield opened
    for replica in opened:
        await replica.close()


class Consumers:
    """What takes, checks and settles; each conversation's deliveries must come in order, one at a time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.acknowledged: dict[str, list[int]] = defaultdict(list)
        self.out: dict[str, int] = {}

    @property
    def count(self) -> int:
        return sum(len(numbers) for numbers in self.acknowledged.values())

    async def consume(self, replica: PostgresStore, until: int) -> None:
        """Take and settle until so many are acknowledged."""
        while self.count < until:
            claimed = await replica.claim("default", limit=5, max_bytes=10**6, lease_seconds=30)
            for delivery in claimed.deliveries:
                sender, number = _read(delivery)
                assert sender not in self.out, f"{sender} is out twice"
                self.out[sender] = number
            await asyncio.sleep(0)
            for delivery in claimed.deliveries:
                await self._settle(replica, delivery)

    async def _settle(self, replica: PostgresStore, delivery: ClaimedDelivery) -> None:
        sender, number = _read(delivery)
        kind = self.chance.choices([SettlementKind.ACK, SettlementKind.RETURN, SettlementKind.NACK], [8, 1, 1])[0]
        if kind is SettlementKind.ACK:
            self.acknowledged[sender].append(number)
        del self.out[sender]
        (status,) = await replica.settle("default", [Settlement(delivery.token, kind, 0)])
        assert status.value == "ok"


def _read(delivery: ClaimedDelivery) -> tuple[str, int]:
    sender, _, number = delivery.payload.decode().partition("/")
    return sender, int(number)


async def _write(replicas: Sequence[PostgresStore], sender: str, seed: int) -> None:
    """Send a conversation, each message after the one before it is stored, and some of them twice at once."""
    chance = random.Random(seed)
    for number in range(MESSAGES):
        message = a_message(f"{sender}/{number}", sender=sender, payload=f"{sender}/{number}".encode())
        repeats = chance.choice([1, 1, 2])
        outcomes = await asyncio.gather(*(chance.choice(replicas).record([message]) for _ in range(repeats)))
        assert sorted(outcome.is_duplicate for (outcome,) in outcomes) == [False, True][:repeats]


async def test_conversations_stay_in_order_and_in_one_hand_over_two_replicas(
    replicas: Sequence[PostgresStore], dsn: str
) -> None:
    consumers = Consumers(seed=1)
    for replica in replicas:
        await replica.update_destination("default", lambda settings: settings)
    until = CONVERSATIONS * MESSAGES
    await asyncio.gather(
        *(_write(replicas, f"whatsapp:+{number}", number) for number in range(CONVERSATIONS)),
        *(consumers.consume(replica, until) for replica in replicas for _ in range(CONSUMERS)),
    )

    assert dict(consumers.acknowledged) == {
        f"whatsapp:+{number}": list(range(MESSAGES)) for number in range(CONVERSATIONS)
    }
    assert await _count_deadlocks(dsn) == 0


async def test_what_is_recorded_at_once_is_delivered_in_the_order_of_its_sequences(
    replicas: Sequence[PostgresStore], dsn: str
) -> None:
    chance = random.Random(2)
    numbers = list(range(600))
    chance.shuffle(numbers)
    batches = [
        [
            a_message(f"SM{number}", sender=f"whatsapp:+{number % 7}", payload=b"%d" % (number % 7))
            for number in numbers[start : start + 6]
        ]
        for start in range(0, len(numbers), 6)
    ]

    await asyncio.gather(*(_record(replicas[writer % 2], batches[writer::WRITERS]) for writer in range(WRITERS)))

    delivered = await deliver_all(replicas[0])
    by_sender: dict[bytes, list[int]] = defaultdict(list)
    for delivery in delivered:
        by_sender[delivery.payload].append(delivery.sequence)
    assert len(delivered) == len(numbers)
    assert all(sequences == sorted(sequences) for sequences in by_sender.values())
    assert await _count_deadlocks(dsn) == 0


async def test_a_conversation_that_goes_back_and_forth_stays_in_order(replicas: Sequence[PostgresStore]) -> None:
    """Whatever is recorded while it is assigned goes where it is, or moves there."""
    conversation = Conversation("C1", "whatsapp:+1")
    taken: list[int] = []
    is_over = asyncio.Event()

    async def send() -> None:
        chance = random.Random(3)
        for start in range(0, 150, 3):
            batch = [a_message(f"SM{number}", destinations=("bot",)) for number in range(start, start + 3)]
            await chance.choice(replicas).record(batch)
        is_over.set()

    async def assign() -> None:
        chance = random.Random(4)
        while not is_over.is_set():
            await chance.choice(replicas).assign(conversation, chance.choice(["agents", "bot"]), ttl_seconds=60)

    async def take(replica: PostgresStore, destination: str) -> None:
        while len(taken) < 150:
            for delivery in (await replica.claim(destination, limit=1, max_bytes=1, lease_seconds=30)).deliveries:
                taken.append(delivery.sequence)
                (status,) = await replica.settle(destination, [Settlement(delivery.token, SettlementKind.ACK)])
                assert status.value == "ok"

    await asyncio.gather(send(), assign(), *(take(replica, name) for replica in replicas for name in ("bot", "agents")))

    assert taken == sorted(taken)


async def test_nothing_of_a_sender_is_left_that_is_erased_while_messages_come_in(
    replicas: Sequence[PostgresStore],
) -> None:
    sender = Conversation("C1", "whatsapp:+1")
    batches = [
        [a_message(f"SM{number}", sender=sender.sender), a_message(f"other{number}", sender="whatsapp:+2")]
        for number in range(60)
    ]
    is_under_way = asyncio.Event()

    async def erase() -> None:
        await is_under_way.wait()
        await replicas[0].erase_sender(sender, limit=1000)

    async def record(writer: int) -> None:
        await _record(replicas[writer % 2], batches[writer:30:WRITERS])
        is_under_way.set()
        await _record(replicas[writer % 2], batches[30 + writer :: WRITERS])

    await asyncio.gather(erase(), *(record(writer) for writer in range(WRITERS)))

    found = await replicas[1].list_messages(MessageFilter("C1", sender.sender), before=None, limit=10)
    assert not found.messages


async def test_who_follows_held_messages_passes_none_whose_transaction_is_still_open(
    replicas: Sequence[PostgresStore],
) -> None:
    seen: list[int] = []
    total = 400

    async def follow() -> None:
        while len(seen) < total:
            after = seen[-1] if seen else 0
            page = await replicas[0].find_held(HeldSelection(), after=after, limit=50)
            seen.extend(message.sequence for message in page)

    async def hold(start: int) -> None:
        for number in range(start, start + total // 8):
            message = a_message(f"SM{number}", sender=f"whatsapp:+{number}", hold_reason=HoldReason.UNROUTED)
            await replicas[number % 2].record([message])

    async with asyncio.timeout(50):
        await asyncio.gather(follow(), *(hold(start) for start in range(0, total, total // 8)))

    assert seen == sorted(set(seen))


async def test_who_follows_the_directory_passes_no_change_whose_transaction_is_still_open(
    replicas: Sequence[PostgresStore],
) -> None:
    names = [f"C{number}" for number in range(60)]
    seen: list[str] = []

    async def follow() -> None:
        position = None
        while len(seen) < len(names):
            changes = await replicas[0].find_changes(position, limit=7)
            position = changes.position
            seen.extend(channel.channel_config_id for channel in changes.channels)

    async def create(writer: int) -> None:
        for name in names[writer::WRITERS]:
            await replicas[writer % 2].create_channel(a_channel(name))

    async with asyncio.timeout(50):
        await asyncio.gather(follow(), *(create(writer) for writer in range(WRITERS)))

    assert sorted(seen) == sorted(names)


async def _record(replica: PostgresStore, batches: Sequence[Sequence[RoutedMessage]]) -> None:
    for batch in batches:
        await replica.record(batch)


async def _count_deadlocks(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    return count


async def test_channels_that_two_replicas_make_at_once_are_all_seen_by_who_follows(
    replicas: Sequence[PostgresStore],
) -> None:
    names = {f"C{number}" for number in range(200)}
    making = [
        asyncio.create_task(replicas[number % 2].create_channel(a_channel(name))) for number, name in enumerate(names)
    ]
    position, seen = None, list[str]()
    while len(seen) < len(names):
        changes = await replicas[0].find_changes(position, limit=7)
        seen += [channel.channel_config_id for channel in changes.channels]
        position = changes.position
    await asyncio.gather(*making)

    assert sorted(seen) == sorted(names)
    assert position == (await replicas[1].find_changes(None, limit=1000)).position
