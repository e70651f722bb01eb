"""The store on PostgreSQL: any number of service processes, on any number of machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Self

import asyncpg

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
from service.store.postgres import (
    aside,
    assignments,
    audit,
    claims,
    concerns,
    conversations,
    dead_letters,
    destinations,
    directory,
    erasure,
    handover,
    life,
    messages,
    password_uses,
    quarantine,
    replays,
    rerouting,
    retention,
    settlements,
    signatures,
)
from service.store.postgres.listening import Listening
from service.store.postgres.pool import LOST, Pool
from service.store.postgres.schema import migrate
from service.store.postgres.server import Server
from service.store.postgres.session import DEADLINE_SECONDS, Sessions

MOST_CONNECTIONS = 10
"""Of one process, but for the one that listens."""

STARTING_SECONDS = 5.0
"""How long a server may take to come up that is started at the same time."""


class PostgresStore:
    """Keeps `contract.Store` on PostgreSQL. Open it with `PostgresStore.open`."""

    is_shared = True

    def __init__(self, pool: Pool, listening: Listening, sessions: Sessions) -> None:
        self._pool = pool
        self._listening = listening
        self._sessions = sessions
        self._counting = Counting(lambda: sessions.count(destinations.count))

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        listen_dsn: str | None = None,
        clock: Clock | None = None,
        most_connections: int = MOST_CONNECTIONS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Self:
        """Open the database and bring its schema up to date. Raises `StoreRefused` when it must not be used.

        `listen_dsn` goes straight to the server, where a pooler in transaction mode is at `dsn`. `clock` tells the time
        instead of the database. What takes longer than the deadline is `StoreUnavailable`.
        """
        direct = Server(listen_dsn or dsn)
        await _prepare(direct)
        pool = Pool(Server(dsn, is_pooled=listen_dsn is not None).connect, most_connections)
        listening = Listening(direct.connect)
        return cls(pool, listening, Sessions(pool, listening.announce, clock, deadline_seconds))

    def listen(self, listener: StoreListener) -> None:
        self._listening.listen(listener)

    async def connected(self) -> None:
        """Return when commits of other processes are heard of."""
        await self._listening.connected()

    async def check_alive(self) -> None:
        await self._sessions.run(directory.touch)

    async def find_concerns(self) -> Sequence[str]:
        """Return what is wrong with how the database is set up, although it works; each with what to do."""
        return await self._sessions.read(concerns.find_concerns)

    async def close(self) -> None:
        await self._listening.close()
        await self._counting.close()
        await self._pool.close()

    async def create_channel(self, channel: Channel, *, actor: str = GATEWAY) -> Channel:
        return await self._sessions.change(lambda transaction: directory.create_channel(transaction, channel, actor))

    async def find_channels(self, channel_config_ids: Collection[str]) -> Mapping[str, Channel]:
        return await self._sessions.read(lambda transaction: directory.find_channels(transaction, channel_config_ids))

    async def list_channels(self, *, after: str, limit: int) -> Sequence[Channel]:
        return await self._sessions.read(lambda transaction: directory.list_channels(transaction, after, limit))

    async def replace_channel(self, channel: Channel, *, entry: AuditEntry | None = None) -> Channel:
        return await self._sessions.change(lambda transaction: directory.replace_channel(transaction, channel, entry))

    async def replace_routes(
        self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None, actor: str = GATEWAY
    ) -> int:
        return await self._sessions.change(
            lambda transaction: directory.replace_routes(transaction, channel_config_id, routes, expected, actor)
        )

    async def delete_channel(self, channel_config_id: str, *, expected: int | None, actor: str = GATEWAY) -> None:
        await self._sessions.change(
            lambda transaction: directory.delete_channel(transaction, channel_config_id, expected, actor)
        )

    async def list_route_revisions(
        self, channel_config_id: str, *, before: int | None, limit: int
    ) -> Sequence[RouteRevision]:
        return await self._sessions.report(
            lambda transaction: directory.list_route_revisions(transaction, channel_config_id, before, limit)
        )

    async def add_signature_counts(self, counts: Sequence[SignatureCount]) -> None:
        # Not synced: they are figures.
        await self._sessions.run(lambda transaction: signatures.add_counts(transaction, counts), is_durable=False)

    async def find_signature_counts(self, channel_config_id: str) -> Sequence[SignatureCount]:
        return await self._sessions.read(lambda transaction: signatures.find_counts(transaction, channel_config_id))

    async def note_password_uses(self, uses: Sequence[PasswordUse]) -> None:
        # Not synced: the next report says more.
        await self._sessions.run(lambda transaction: password_uses.note_uses(transaction, uses), is_durable=False)

    async def find_password_uses(self, channel_config_id: str) -> Sequence[PasswordUse]:
        return await self._sessions.read(lambda transaction: password_uses.find_uses(transaction, channel_config_id))

    async def find_changes(self, after: DirectoryPosition | None, *, limit: int) -> ChannelChanges:
        return await self._sessions.read(lambda transaction: directory.find_changes(transaction, after, limit))

    async def record(
        self, intake: Sequence[RoutedMessage], *, is_recovered: bool = False, quarantine_entry_id: str = ""
    ) -> Sequence[Recorded]:
        return await self._sessions.run(
            lambda transaction: messages.record(transaction, intake, is_recovered, quarantine_entry_id),
            tells_time=True,
        )

    async def find_message(self, channel_config_id: str, message_sid: str) -> StoredMessage | None:
        return await self._sessions.read(
            lambda transaction: life.find_message(transaction, channel_config_id, message_sid)
        )

    async def list_messages(self, which: MessageFilter, *, before: int | None, limit: int) -> MessagePage:
        return await self._sessions.report(lambda transaction: life.list_messages(transaction, which, before, limit))

    async def find_held(self, which: HeldSelection, *, after: int, limit: int) -> Sequence[HeldMessage]:
        # By its keys a message is found even while an older transaction is open.
        until = None if which.keys else await self._sessions.read(conversations.settled_until)
        return await self._sessions.report(
            lambda transaction: aside.find_held(transaction, which, after, limit, until=until)
        )

    async def release(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, Decision]:
        return await self._sessions.run(lambda transaction: aside.release(transaction, releases, actor))

    async def discard(self, sequences: Sequence[int], *, actor: str = GATEWAY) -> int:
        return await self._sessions.run(lambda transaction: aside.discard(transaction, sequences, actor))

    async def re_route(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, ReRouting]:
        return await self._sessions.run(lambda transaction: rerouting.re_route(transaction, releases, actor))

    async def load_payloads(self, sequences: Collection[int]) -> Mapping[int, bytes]:
        return await self._sessions.read(lambda transaction: aside.load_payloads(transaction, sequences))

    async def keep_clash(self, sequence: int, fingerprint: bytes, payload: bytes) -> None:
        await self._sessions.run(lambda transaction: aside.keep_clash(transaction, sequence, fingerprint, payload))

    async def find_clashes(self, sequence: int) -> Sequence[Clash]:
        return await self._sessions.read(lambda transaction: aside.find_clashes(transaction, sequence))

    async def quarantine(self, requests: Sequence[QuarantinedRequest]) -> int:
        return await self._sessions.run(lambda transaction: quarantine.quarantine(transaction, requests))

    async def list_quarantined(
        self, channel_config_id: str | None, *, before: int | None, limit: int
    ) -> QuarantinePage:
        return await self._sessions.report(
            lambda transaction: quarantine.list_quarantined(transaction, channel_config_id, before, limit)
        )

    async def find_quarantined(self, entry_id: str) -> bytes | None:
        return await self._sessions.read(lambda transaction: quarantine.find_quarantined(transaction, entry_id))

    async def discard_quarantined(self, entry_ids: Sequence[str], *, actor: str = GATEWAY) -> int:
        return await self._sessions.run(lambda transaction: quarantine.discard(transaction, entry_ids, actor))

    async def find_quarantined_after(
        self, channel_config_id: str, *, after: int, limit: int
    ) -> Sequence[QuarantineKey]:
        return await self._sessions.report(
            lambda transaction: quarantine.find_quarantined_after(transaction, channel_config_id, after, limit)
        )

    async def audit(self, entry: AuditEntry) -> None:
        await self._sessions.run(lambda transaction: audit.write_entry(transaction, entry))

    async def list_audit(self, action: str | None, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
        return await self._sessions.report(lambda transaction: audit.list_audit(transaction, action, before, limit))

    async def load_summary(self, *, most_channels: int) -> Summary:
        return await self._sessions.report(lambda transaction: aside.load_summary(transaction, most_channels))

    async def claim(self, destination: str, *, limit: int, max_bytes: int, lease_seconds: float | None) -> Claimed:
        # Not synced: a power failure redelivers.
        return await self._sessions.run(
            lambda transaction: claims.claim(transaction, destination, limit, max_bytes, lease_seconds),
            is_durable=False,
            tells_time=True,
        )

    async def settle(self, destination: str, settlements_: Sequence[Settlement]) -> Sequence[AckStatus]:
        return await self._sessions.run(
            lambda transaction: settlements.settle(transaction, destination, settlements_), tells_time=True
        )

    async def assign(
        self,
        conversation: Conversation,
        destination: str | None,
        *,
        ttl_seconds: float,
        ack: DeliveryKey | None = None,
        actor: str = GATEWAY,
    ) -> AssignmentOutcome:
        return await self._sessions.run(
            lambda transaction: handover.assign(
                transaction, conversation, destination, ttl_seconds=ttl_seconds, ack=ack, actor=actor
            )
        )

    async def find_assignment(self, conversation: Conversation) -> Assignment | None:
        return await self._sessions.read(lambda transaction: assignments.find(transaction, conversation))

    async def list_destinations(self) -> Sequence[DestinationStatus]:
        count = await self._counting.latest()
        return describe(await self._sessions.read(destinations.list_settings), count)

    async def update_destination(
        self, name: str, change: Callable[[DestinationSettings], DestinationSettings], *, actor: str = GATEWAY
    ) -> DestinationSettings:
        return await self._sessions.run(
            lambda transaction: destinations.update_destination(transaction, name, change, actor)
        )

    async def list_dead_letters(
        self, which: DeadLetterSelection, *, before: int | None, limit: int
    ) -> Sequence[DeadLetter]:
        return await self._sessions.report(
            lambda transaction: dead_letters.list_dead_letters(transaction, which, before, limit)
        )

    async def redrive(self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY) -> SettledPage:
        return await self._sessions.run(
            lambda transaction: dead_letters.redrive(transaction, which, after, limit, actor)
        )

    async def discard_dead_letters(
        self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY
    ) -> SettledPage:
        return await self._sessions.run(
            lambda transaction: dead_letters.discard_dead_letters(transaction, which, after, limit, actor)
        )

    async def count_replay(self, destination: str, selection: ReplaySelection) -> int:
        return await replays.count_replay(self._sessions, destination, selection)

    async def start_replay(self, replay: Replay, *, actor: str = GATEWAY) -> Replay:
        return await self._sessions.run(lambda transaction: replays.start_replay(transaction, replay, actor))

    async def advance_replays(self) -> int | None:
        # Not synced: position and deliveries are lost together, and queued again.
        return await self._sessions.run(replays.advance_replays, is_durable=False)

    async def find_replay(self, replay_id: str) -> Replay | None:
        return await self._sessions.read(lambda transaction: replays.find_replay(transaction, replay_id))

    async def list_replays(self, *, before: int | None, limit: int) -> ReplayPage:
        return await self._sessions.report(lambda transaction: replays.list_replays(transaction, before, limit))

    async def cancel_replay(self, replay_id: str, *, actor: str = GATEWAY) -> Replay | None:
        return await self._sessions.run(lambda transaction: replays.cancel_replay(transaction, replay_id, actor))

    async def prune(self, *, limit: int) -> int:
        return await self._sessions.run(lambda transaction: retention.prune(transaction, limit))

    async def erase_sender(self, conversation: Conversation, *, limit: int, actor: str = GATEWAY) -> ErasedCounts:
        return await self._sessions.run(
            lambda transaction: erasure.erase_sender(transaction, conversation, limit, actor)
        )


async def _prepare(server: Server) -> None:
    """Bring the schema up to date. Waits for a while for a server that is starting."""
    try:
        connection = await server.connect_patiently(STARTING_SECONDS)
        try:
            await migrate(connection)
        finally:
            connection.terminate()
    except (*LOST, asyncpg.PostgresError) as error:
        raise StoreRefused(
            f"can't use {server}: {str(error) or type(error).__name__}; start PostgreSQL there, or mend the --store"
        ) from error
