"""The store on SQLite: one service process, one file, one writer thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time_ns
from typing import Self, TypeVar

import apsw

from service.errors import StoreRefused, StoreUnavailable
from service.models import (
    AckStatus,
    Channel,
    ChannelChanges,
    Claimed,
    Clash,
    DestinationStatus,
    DirectoryPosition,
    HeldMessage,
    HeldSelection,
    MessageFilter,
    MessagePage,
    QuarantinedRequest,
    QuarantinePage,
    Recorded,
    Release,
    Route,
    RoutedMessage,
    Settlement,
    StoredMessage,
    Summary,
)
from service.store.contract import Clock, StoreListener
from service.store.sqlite import aside, directory, feed, messages, quarantine
from service.store.sqlite.messages import find_last_commit
from service.store.sqlite.schema import lock_file, open_reader, open_writer
from service.store.sqlite.writer import Writer

T = TypeVar("T")


def microseconds_now() -> int:
    """Return the time in microseconds since 1970."""
    return time_ns() // 1000


class SqliteStore:
    """Keeps `contract.Store` on a SQLite file. Open it with `SqliteStore.open`."""

    is_shared = False

    def __init__(self, writer: Writer, reader: Reader, reporter: Reader, clock: Clock, lock: int) -> None:
        self._writer = writer
        self._reader = reader
        self._reporter = reporter
        self._clock = clock
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path, *, clock: Clock = microseconds_now) -> Self:
        """Open or make the file. On the event loop. Raises `StoreRefused` when it must not be used."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = lock_file(path)
        except OSError as error:
            raise StoreRefused(
                f"can't use {path}: {error.strerror}; give a --store in a folder that can be written"
            ) from None
        try:
            connection = open_writer(path)
            return cls(Writer(connection, clock, find_last_commit(connection)), Reader(path), Reader(path), clock, lock)
        except apsw.Error as error:
            os.close(lock)
            raise StoreRefused(f"can't open {path}: {error}") from error
        except BaseException:
            os.close(lock)
            raise

    def listen(self, listener: StoreListener) -> None:
        self._writer.listen(listener)

    async def check_alive(self) -> None:
        await self._writer.run(directory.touch)

    async def close(self) -> None:
        await self._reader.close()
        await self._reporter.close()
        await self._writer.close()  # the last connection to close merges the WAL
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def create_channel(self, channel: Channel) -> Channel:
        return await self._writer.run(lambda transaction: directory.create_channel(transaction, channel))

    async def find_channels(self, channel_config_ids: Collection[str]) -> Mapping[str, Channel]:
        return await self._reader.run(lambda connection: directory.find_channels(connection, channel_config_ids))

    async def list_channels(self, *, after: str, limit: int) -> Sequence[Channel]:
        return await self._reader.run(lambda connection: directory.list_channels(connection, after, limit))

    async def replace_channel(self, channel: Channel) -> Channel:
        return await self._writer.run(lambda transaction: directory.replace_channel(transaction, channel))

    async def replace_routes(self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None) -> int:
        return await self._writer.run(
            lambda transaction: directory.replace_routes(transaction, channel_config_id, routes, expected)
        )

    async def delete_channel(self, channel_config_id: str, *, expected: int | None) -> None:
        await self._writer.run(lambda transaction: directory.delete_channel(transaction, channel_config_id, expected))

    async def find_changes(self, after: DirectoryPosition | None, *, limit: int) -> ChannelChanges:
        return await self._reader.run(lambda connection: directory.find_changes(connection, after, limit))

    async def record(
        self, intake: Sequence[RoutedMessage], *, is_recovered: bool = False, quarantine_entry_id: str = ""
    ) -> Sequence[Recorded]:
        return await self._writer.run(
            lambda transaction: messages.record(transaction, intake, is_recovered, quarantine_entry_id)
        )

    async def find_message(self, channel_config_id: str, message_sid: str) -> StoredMessage | None:
        return await self._reader.run(
            lambda connection: messages.find_message(connection, channel_config_id, message_sid)
        )

    async def list_messages(self, which: MessageFilter, *, before: int | None, limit: int) -> MessagePage:
        return await self._reporter.run(lambda connection: messages.list_messages(connection, which, before, limit))

    async def find_held(self, which: HeldSelection, *, after: int, limit: int) -> Sequence[HeldMessage]:
        return await self._reporter.run(lambda connection: aside.find_held(connection, which, after, limit))

    async def release(self, releases: Sequence[Release]) -> int:
        return await self._writer.run(lambda transaction: aside.release(transaction, releases))

    async def discard(self, sequences: Sequence[int]) -> int:
        return await self._writer.run(lambda transaction: aside.discard(transaction, sequences))

    async def load_payloads(self, sequences: Collection[int]) -> Mapping[int, bytes]:
        return await self._reader.run(lambda connection: aside.load_payloads(connection, sequences))

    async def keep_clash(self, sequence: int, fingerprint: bytes, payload: bytes) -> None:
        await self._writer.run(lambda transaction: aside.keep_clash(transaction, sequence, fingerprint, payload))

    async def find_clashes(self, sequence: int) -> Sequence[Clash]:
        return await self._reader.run(lambda connection: aside.find_clashes(connection, sequence))

    async def quarantine(self, requests: Sequence[QuarantinedRequest]) -> None:
        await self._writer.run(lambda transaction: quarantine.quarantine(transaction, requests))

    async def list_quarantined(
        self, channel_config_id: str | None, *, before: int | None, limit: int
    ) -> QuarantinePage:
        return await self._reporter.run(
            lambda connection: quarantine.list_quarantined(connection, channel_config_id, before, limit)
        )

    async def find_quarantined(self, entry_id: str) -> bytes | None:
        return await self._reader.run(lambda connection: quarantine.find_quarantined(connection, entry_id))

    async def discard_quarantined(self, entry_ids: Sequence[str]) -> int:
        return await self._writer.run(lambda transaction: quarantine.settle_quarantined(transaction, entry_ids))

    async def load_summary(self, *, most_channels: int) -> Summary:
        return await self._reporter.run(lambda connection: aside.load_summary(connection, most_channels))

    async def claim(self, destination: str, *, limit: int, max_bytes: int, lease_seconds: float) -> Claimed:
        # Not synced: a power failure redelivers.
        return await self._writer.run(
            lambda transaction: feed.claim(transaction, destination, limit, max_bytes, lease_seconds), is_durable=False
        )

    async def settle(self, destination: str, settlements: Sequence[Settlement]) -> Sequence[AckStatus]:
        return await self._writer.run(lambda transaction: feed.settle(transaction, destination, settlements))

    async def list_destinations(self) -> Sequence[DestinationStatus]:
        return await self._reporter.run(lambda connection: feed.list_destinations(connection, self._clock()))


class Reader:
    """One read-only connection on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._is_closed = False
        self._connection = open_reader(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-reader")

    async def run(self, look: Callable[[apsw.Connection], T]) -> T:
        """Return what `look` finds."""
        if self._is_closed:
            raise StoreUnavailable("the store is closed; retry when the service is back")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, look, self._connection)
        except apsw.Error as error:
            raise StoreUnavailable("the store can't be read; retry") from error

    async def close(self) -> None:
        """Finish what was asked for and close the connection. A repeat does nothing."""
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()
