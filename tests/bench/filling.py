"""Stores that are full before anybody uses them: filled through the store's own contract, in batches."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from service.errors import AlreadyExists, StoreUnavailable
from service.models import Channel, Credentials, RoutedMessage, Settlement, SettlementKind
from service.passwords import Hashing, hash_password
from service.store.contract import Store
from service.store.postgres import PostgresStore
from service.store.sqlite import SqliteStore
from tests.bench.mo_messages import DESTINATION, a_routed_text

T = TypeVar("T")

_USER, _PASSWORD = "bench", "a password that nobody guesses"
AUTHORIZATION = "Basic " + b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
"""Of every channel."""

_SQLITE = "sqlite:///"
_CHANNELS_AT_ONCE = {False: 500, True: 8}
"""In a store of our own, and in a shared one, where they wait for each other."""
_MESSAGES_AT_ONCE = 2_000
_CONVERSATIONS = 100_000
_TELL_EVERY = 100_000
_LARGEST_BYTES = 2**40
_LEASE_SECONDS = 10.0
_MOST_TRIES = 20
_PAUSE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Open the store that a service would open with this `--store`; PostgreSQL needs not wait for the disk here."""
    store: Store = (
        SqliteStore.open(Path(url.removeprefix(_SQLITE)))
        if is_sqlite(url)
        else await PostgresStore.open(f"{url}?synchronous_commit=off", most_connections=4)
    )
    try:
        yield store
    finally:
        await store.close()


def is_sqlite(url: str) -> bool:
    return url.startswith(_SQLITE)


async def make_channels(
    store: Store, numbers: range, tell: Callable[[str], None], *, hashing: Hashing | None = None
) -> None:
    """Make the channels "C1-0", "C1-1", … of these numbers."""
    credentials = Credentials(_USER, hash_password(_PASSWORD, hashing or Hashing()))
    tell(f"{len(numbers):,} channels are made")
    at_once = _CHANNELS_AT_ONCE[store.is_shared]
    for start in range(0, len(numbers), at_once):
        some = numbers[start : start + at_once]
        channels = [Channel(f"C1-{number}", "twilio", credentials, destination=DESTINATION) for number in some]
        await asyncio.gather(*(_insist(partial(_make_channel, store, channel)) for channel in channels))


async def _make_channel(store: Store, channel: Channel) -> None:
    with contextlib.suppress(AlreadyExists):  # a try before this one made it, and was too slow to say so
        await store.create_channel(channel)


async def make_messages(store: Store, count: int, tell: Callable[[str], None], *, are_settled: bool) -> None:
    """Store messages of 100,000 conversations; deliver and acknowledge them, or leave all of them waiting."""
    for start in range(0, count, _MESSAGES_AT_ONCE):
        if start % _TELL_EVERY == 0:
            tell(f"{start:,} of {count:,} messages are stored" + (" and settled" if are_settled else ""))
        numbers = range(start, min(count, start + _MESSAGES_AT_ONCE))
        texts = [a_message(number) for number in numbers]
        await _insist(partial(store.record, texts))
        if are_settled:
            await _settle(store, len(numbers))


def a_message(number: int) -> RoutedMessage:
    """Return the message of that number, in turn of 100 channels and 100,000 conversations."""
    return a_routed_text(number, conversations=_CONVERSATIONS, channel_config_id=f"C1-{number % 100}")


async def _settle(store: Store, count: int) -> None:
    tries = 0
    while count > 0:
        claimed = await _insist(
            partial(store.claim, DESTINATION, limit=count, max_bytes=_LARGEST_BYTES, lease_seconds=_LEASE_SECONDS)
        )
        acks = [Settlement(delivery.token, SettlementKind.ACK) for delivery in claimed.deliveries]
        await _insist(partial(store.settle, DESTINATION, acks))
        count -= len(acks)
        if not acks:  # the answer to a claim was lost: what it leased comes back
            tries += 1
            if tries == _MOST_TRIES:
                raise RuntimeError(f"{count} messages are stored that nobody gets")
            await asyncio.sleep(_PAUSE_SECONDS)


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat what a busy machine makes too slow; that is always safe."""
    for _ in range(_MOST_TRIES):
        with contextlib.suppress(StoreUnavailable):
            return await call()
        await asyncio.sleep(_PAUSE_SECONDS)
    return await call()
