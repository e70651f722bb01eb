"""The store on SQLite: one service process, one file, one writer thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from time import time_ns
from typing import Self

import apsw

from service.errors import StoreRefused
from service.models import (
    AckStatus,
    Assignment,
    AssignmentOutcome,
    AuditEntry,
    Channel,
    ChannelChanges,
    Claimed,
    Clash,
    Conversation,
    DeadLetter,
    DeadLetterSelection,
    Decision,
    DeliveryKey,
    DestinationSettings,
    DestinationStatus,
    DirectoryPosition,
    ErasedCounts,
    HeldMessage,
    HeldSelection,
    MessageFilter,
    MessagePage,
    PasswordUse,
    QuarantinedRequest,
    QuarantineKey,
    QuarantinePage,
    Recorded,
    Release,
    Replay,
    ReplayPage,
    ReplaySelection,
    ReRouting,
    Route,
    RoutedMessage,
    RouteRevision,
    SettledPage,
    Settlement,
    SignatureCount,
    StoredMessage,
    Summary,
)
from service.store.contract import GATEWAY, Clock, StoreListener
from service.store.counting import Counting, describe
from service.store.sqlite import (
    aside,
    assignments,
    audit,
    claims,
    dead_letters,
    destinations,
    directory,
    erasure,
    handover,
    messages,
    password_uses,
    quarantine,
    recording,
    replays,
    rerouting,
    retention,
    settlements,
    signatures,
)
from service.store.sqlite.messages import find_last_commit
from service.store.sqlite.reader import Reader
from service.store.sqlite.recording import Intake
from service.store.sqlite.schema import lock_file, open_writer
from service.store.sqlite.writer import Writer


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
        self._counting = Counting(lambda: reporter.run(lambda connection: destinations.count(connection, clock())))

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

    async def find_concerns(self) -> Sequence[str]:
        return ()

    async def close(self) -> None:
        await self._counting.close()
        await self._reader.close()
        await self._reporter.close()
        await self._writer.close()  # the last connection to close merges the WAL
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def create_channel(self, channel: Channel, *, actor: str = GATEWAY) -> Channel:
        return await self._writer.run(lambda transaction: directory.create_channel(transaction, channel, actor))

    async def find_channels(self, channel_config_ids: Collection[str]) -> Mapping[str, Channel]:
        return await self._reader.run(lambda connection: directory.find_channels(connection, channel_config_ids))

    async def list_channels(self, *, after: str, limit: int) -> Sequence[Channel]:
        return await self._reader.run(lambda connection: directory.list_channels(connection, after, limit))

    async def replace_channel(self, channel: Channel, *, entry: AuditEntry | None = None) -> Channel:
        return await self._writer.run(lambda transaction: directory.replace_channel(transaction, channel, entry))

    async def replace_routes(
        self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None, actor: str = GATEWAY
    ) -> int:
        return await self._writer.run(
            lambda transaction: directory.replace_routes(transaction, channel_config_id, routes, expected, actor)
        )

    async def delete_channel(self, channel_config_id: str, *, expected: int | None, actor: str = GATEWAY) -> None:
        await self._writer.run(
            lambda transaction: directory.delete_channel(transaction, channel_config_id, expected, actor)
        )

    async def list_route_revisions(
        self, channel_config_id: str, *, before: int | None, limit: int
    ) -> Sequence[RouteRevision]:
        return await self._reporter.run(
            lambda connection: directory.list_route_revisions(connection, channel_config_id, before, limit)
        )

    async def add_signature_counts(self, counts: Sequence[SignatureCount]) -> None:
        # Not synced: they are figures.
        await self._writer.run(lambda transaction: signatures.add_counts(transaction, counts), is_durable=False)

    async def find_signature_counts(self, channel_config_id: str) -> Sequence[SignatureCount]:
        return await self._reader.run(lambda connection: signatures.find_counts(connection, channel_config_id))

    async def note_password_uses(self, uses: Sequence[PasswordUse]) -> None:
        # Not synced: the next report says more.
        await self._writer.run(lambda transaction: password_uses.note_uses(transaction, uses), is_durable=False)

    async def find_password_uses(self, channel_config_id: str) -> Sequence[PasswordUse]:
        return await self._reader.run(lambda connection: password_uses.find_uses(connection, channel_config_id))

    async def find_changes(self, after: DirectoryPosition | None, *, limit: int) -> ChannelChanges:
        return await self._reader.run(lambda connection: directory.find_changes(connection, after, limit))

    async def record(
        self, intake: Sequence[RoutedMessage], *, is_recovered: bool = False, quarantine_entry_id: str = ""
    ) -> Sequence[Recorded]:
        return await self._writer.run_together(recording.record, Intake(intake, is_recovered, quarantine_entry_id))

    async def find_message(self, channel_config_id: str, message_sid: str) -> StoredMessage | None:
        return await self._reader.run(
            lambda connection: messages.find_message(connection, channel_config_id, message_sid, self._clock())
        )

    async def list_messages(self, which: MessageFilter, *, before: int | None, limit: int) -> MessagePage:
        return await self._reporter.run(
            lambda connection: messages.list_messages(connection, which, before, limit, self._clock())
        )

    async def find_held(self, which: HeldSelection, *, after: int, limit: int) -> Sequence[HeldMessage]:
        return await self._reporter.run(lambda connection: aside.find_held(connection, which, after, limit))

    async def release(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, Decision]:
        return await self._writer.run(lambda transaction: aside.release(transaction, releases, actor))

    async def discard(self, sequences: Sequence[int], *, actor: str = GATEWAY) -> int:
        return await self._writer.run(lambda transaction: aside.discard(transaction, sequences, actor))

    async def re_route(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, ReRouting]:
        return await self._writer.run(lambda transaction: rerouting.re_route(transaction, releases, actor))

    async def load_payloads(self, sequences: Collection[int]) -> Mapping[int, bytes]:
        return await self._reader.run(lambda connection: aside.load_payloads(connection, sequences))

    async def keep_clash(self, sequence: int, fingerprint: bytes, payload: bytes) -> None:
        await self._writer.run(lambda transaction: aside.keep_clash(transaction, sequence, fingerprint, payload))

    async def find_clashes(self, sequence: int) -> Sequence[Clash]:
        return await self._reader.run(lambda connection: aside.find_clashes(connection, sequence))

    async def quarantine(self, requests: Sequence[QuarantinedRequest]) -> int:
        return await self._writer.run(lambda transaction: quarantine.quarantine(transaction, requests))

    async def list_quarantined(
        self, channel_config_id: str | None, *, before: int | None, limit: int
    ) -> QuarantinePage:
        return await self._reporter.run(
            lambda connection: quarantine.list_quarantined(connection, channel_config_id, before, limit)
        )

    async def find_quarantined(self, entry_id: str) -> bytes | None:
        return await self._reader.run(lambda connection: quarantine.find_quarantined(connection, entry_id))

    async def discard_quarantined(self, entry_ids: Sequence[str], *, actor: str = GATEWAY) -> int:
        return await self._writer.run(lambda transaction: quarantine.discard(transaction, entry_ids, actor))

    async def find_quarantined_after(
        self, channel_config_id: str, *, after: int, limit: int
    ) -> Sequence[QuarantineKey]:
        return await self._reporter.run(
            lambda connection: quarantine.find_quarantined_after(connection, channel_config_id, after, limit)
        )

    async def audit(self, entry: AuditEntry) -> None:
        await self._writer.run(lambda transaction: audit.write_entry(transaction, entry))

    async def list_audit(self, action: str | None, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
        return await self._reporter.run(lambda connection: audit.list_audit(connection, action, before, limit))

    async def load_summary(self, *, most_channels: int) -> Summary:
        return await self._reporter.run(lambda connection: aside.load_summary(connection, most_channels))

    async def claim(self, destination: str, *, limit: int, max_bytes: int, lease_seconds: float | None) -> Claimed:
        # Not synced: a power failure redelivers.
        return await self._writer.run(
            lambda transaction: claims.claim(transaction, destination, limit, max_bytes, lease_seconds),
            is_durable=False,
        )

    async def settle(self, destination: str, settlements_: Sequence[Settlement]) -> Sequence[AckStatus]:
        return await self._writer.run(lambda transaction: settlements.settle(transaction, destination, settlements_))

    async def assign(
        self,
        conversation: Conversation,
        destination: str | None,
        *,
        ttl_seconds: float,
        ack: DeliveryKey | None = None,
        actor: str = GATEWAY,
    ) -> AssignmentOutcome:
        return await self._writer.run(
            lambda transaction: handover.assign(
                transaction, conversation, destination, ttl_seconds=ttl_seconds, ack=ack, actor=actor
            )
        )

    async def find_assignment(self, conversation: Conversation) -> Assignment | None:
        return await self._reader.run(lambda connection: assignments.find(connection, conversation, self._clock()))

    async def list_destinations(self) -> Sequence[DestinationStatus]:
        count = await self._counting.latest()
        return describe(await self._reader.run(destinations.list_settings), count)

    async def update_destination(
        self, name: str, change: Callable[[DestinationSettings], DestinationSettings], *, actor: str = GATEWAY
    ) -> DestinationSettings:
        return await self._writer.run(
            lambda transaction: destinations.update_destination(transaction, name, change, actor)
        )

    async def list_dead_letters(
        self, which: DeadLetterSelection, *, before: int | None, limit: int
    ) -> Sequence[DeadLetter]:
        return await self._reporter.run(
            lambda connection: dead_letters.list_dead_letters(connection, which, before, limit)
        )

    async def redrive(self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY) -> SettledPage:
        return await self._writer.run(lambda transaction: dead_letters.redrive(transaction, which, after, limit, actor))

    async def discard_dead_letters(
        self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY
    ) -> SettledPage:
        return await self._writer.run(
            lambda transaction: dead_letters.discard_dead_letters(transaction, which, after, limit, actor)
        )

    async def count_replay(self, destination: str, selection: ReplaySelection) -> int:
        return await self._reporter.run(lambda connection: replays.count_replay(connection, destination, selection))

    async def start_replay(self, replay: Replay, *, actor: str = GATEWAY) -> Replay:
        return await self._writer.run(lambda transaction: replays.start_replay(transaction, replay, actor))

    async def advance_replays(self) -> int | None:
        # Not synced: position and deliveries are lost together, and queued again.
        return await self._writer.run(replays.advance_replays, is_durable=False)

    async def find_replay(self, replay_id: str) -> Replay | None:
        return await self._reader.run(lambda connection: replays.find_replay(connection, replay_id))

    async def list_replays(self, *, before: int | None, limit: int) -> ReplayPage:
        return await self._reporter.run(lambda connection: replays.list_replays(connection, before, limit))

    async def cancel_replay(self, replay_id: str, *, actor: str = GATEWAY) -> Replay | None:
        return await self._writer.run(lambda transaction: replays.cancel_replay(transaction, replay_id, actor))

    async def prune(self, *, limit: int) -> int:
        return await self._writer.run(lambda transaction: retention.prune(transaction, limit))

    async def erase_sender(self, conversation: Conversation, *, limit: int, actor: str = GATEWAY) -> ErasedCounts:
        return await self._writer.run(lambda transaction: erasure.erase_sender(transaction, conversation, limit, actor))
