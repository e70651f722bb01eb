"""The one interface of the system: what a store promises, whichever database it is.

Every method is a whole operation: atomic, and on disk when it returns, unless
its docstring says less. All of them raise `errors.StoreUnavailable` when the
outcome is unknown or lost; repeating the call is always safe. Several
processes may share a store where the database allows it: nothing here relies
on what one process remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

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

GATEWAY = "gateway"
"""The actor of what the gateway does by itself."""


class StoreListener(Protocol):
    """Hears of commits, on the event loop, soon after them.

    A call may come for nothing, and may be missed when a connection is lost:
    whoever waits looks again at least once a second (`Store.is_shared`), and
    whenever something falls due by the clock.
    """

    def on_ready(self, destinations: Collection[str]) -> None:
        """Something may be claimable in these destinations."""

    def on_arrivals(self, counts: Mapping[str, int]) -> None:
        """So many messages came in for these destinations."""

    def on_dead_letters(self, counts: Mapping[str, int]) -> None:
        """So many deliveries of these destinations were given up."""

    def on_directory_change(self) -> None:
        """`find_changes` may have something new."""


class DirectoryStore(Protocol):
    """The channels, with one revision over all of them that grows with every change.

    It is the time of the change, so that one that was lost, in a restore or a failover, is not used again (as long as
    no clock goes back so far).
    """

    async def create_channel(self, channel: Channel, *, actor: str = GATEWAY) -> Channel:
        """Store a new channel and return it with its revision and times.

        Raises `errors.AlreadyExists` when the id is or ever was in use.
        """

    async def find_channels(self, channel_config_ids: Collection[str]) -> Mapping[str, Channel]:
        """Return those that exist or existed: a deleted one has the state DELETED."""

    async def list_channels(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Return channels in the order of their ids, from the first one after `after`, no deleted ones."""

    async def replace_channel(self, channel: Channel, *, entry: AuditEntry | None = None) -> Channel:
        """Store the channel if it still has the revision that `channel` was read with, and write the audit entry.

        Without an entry, one that says that the gateway changed it. The channel's routes stay as they
        are. What was counted of its signatures is forgotten when what is made of them changes, or
        which secrets there are. So is when its passwords were used, but for those that stay: a hash
        that changes without the credentials' revision is of the same password. Raises
        `errors.NotFound`, also for a deleted one, and `errors.Conflict` when the revision is another.
        """

    async def replace_routes(
        self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None, actor: str = GATEWAY
    ) -> int:
        """Store the routes under the next route revision, which is returned; older ones are kept.

        Raises `errors.NotFound`, and `errors.Conflict` when `expected` is given and isn't the
        current route revision.
        """

    async def delete_channel(self, channel_config_id: str, *, expected: int | None, actor: str = GATEWAY) -> None:
        """Mark the channel as deleted and forget its credentials and secrets; the id is not used again.

        Raises `errors.NotFound` (also for a repeat), `errors.Conflict` when `expected` is given
        and isn't its revision, and `errors.StillInUse` while any of its messages is held or
        not acknowledged.
        """

    async def list_route_revisions(
        self, channel_config_id: str, *, before: int | None, limit: int
    ) -> Sequence[RouteRevision]:
        """Return the revisions of a channel's routes below `before`, newest first."""

    async def add_signature_counts(self, counts: Sequence[SignatureCount]) -> None:
        """Add to what is counted of channels; those that don't check signatures are left out. A repeat counts twice."""

    async def find_signature_counts(self, channel_config_id: str) -> Sequence[SignatureCount]:
        """Return what was counted of a channel, in no order."""

    async def note_password_uses(self, uses: Sequence[PasswordUse]) -> None:
        """Keep when passwords were last used. No change of the directory: nobody who follows it hears of it.

        A later time that is known already stays; passwords that aren't the channel's are left out.
        """

    async def find_password_uses(self, channel_config_id: str) -> Sequence[PasswordUse]:
        """Return when each password of a channel was last used; those that never were are left out."""

    async def find_changes(self, after: DirectoryPosition | None, *, limit: int) -> ChannelChanges:
        """Return the channels that changed after `after`, deleted ones too, oldest change first.

        From the beginning when `after` is None, or no position that this directory has had: of another
        one, or of changes that were lost since, in a restore or a failover. Then `is_reset` says so.
        Never skips the change of a transaction that is still open.
        """


class MessageStore(Protocol):
    """The messages and what became of them."""

    async def record(
        self, intake: Sequence[RoutedMessage], *, is_recovered: bool = False, quarantine_entry_id: str = ""
    ) -> Sequence[Recorded]:
        """Store each message with its decision and its deliveries, all in one transaction.

        One result a message, in order; sequence numbers grow in that order. A message whose
        (channel, MessageSid) is known already, also from earlier in `intake`, is not stored
        again: its `Recorded` says so and carries the first one's sequence. The listener hears
        of the destinations. `is_recovered` counts them as out of a journal; the quarantined
        request that they were made of, if any, is settled with them.

        Where the conversation is assigned and the message isn't held, the assignment replaces the
        first destination; a decision with affinity begins or prolongs one of that reason, which
        never replaces an ASSIGNED one. A message that was received before its sender was erased
        is not stored: its `Recorded` says so, and the audit counts it.
        """

    async def find_message(self, channel_config_id: str, message_sid: str) -> StoredMessage | None:
        """Return the message and its life so far, None when there is none."""

    async def list_messages(self, which: MessageFilter, *, before: int | None, limit: int) -> MessagePage:
        """Return messages with a sequence below `before`, newest first.

        Looks at a bounded number of rows: a page may be short, even empty, and still not the
        last one.
        """


class AsideStore(Protocol):
    """What waits for an operator: held messages, clashes, quarantined requests."""

    async def find_held(self, which: HeldSelection, *, after: int, limit: int) -> Sequence[HeldMessage]:
        """Return held messages with a sequence above `after`, oldest first."""

    async def release(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, Decision]:
        """Give held messages their decisions and deliveries; return, by sequence, those of the ones that were held.

        In the order of their sequences, and before what is not delivered yet in each of their
        conversations, but after a delivery that is out. What had failed attempts there keeps them.
        Where a release follows assignments, the
        decision is that of `record`, but none begins an affinity. A decision that holds leaves its
        message held, for that reason. The listener hears of the destinations.
        """

    async def discard(self, sequences: Sequence[int], *, actor: str = GATEWAY) -> int:
        """Settle held messages without delivering them; return how many were still held."""

    async def re_route(self, releases: Sequence[Release], *, actor: str = GATEWAY) -> Mapping[int, ReRouting]:
        """Give stored messages other decisions, as `release` does it; return what they are, by sequence.

        What is not delivered yet leaves a destination that the decision doesn't name, and a
        destination that never had the message gets it, in the order of its conversation among what
        waits there. What is out, settled or dead-lettered stays. Held and discarded messages are
        left alone.
        """

    async def load_payloads(self, sequences: Collection[int]) -> Mapping[int, bytes]:
        """Return the payloads of stored messages."""

    async def keep_clash(self, sequence: int, fingerprint: bytes, payload: bytes) -> None:
        """Keep a message that came with the id of the one at `sequence`; count it for the channel.

        One with a known fingerprint, or the eleventh of a message, is counted only.
        """

    async def find_clashes(self, sequence: int) -> Sequence[Clash]:
        """Return what `keep_clash` kept, oldest first."""

    async def quarantine(self, requests: Sequence[QuarantinedRequest]) -> int:
        """Keep requests. One whose entry id is known already, also a settled one, is not kept again.

        One that was received before one of its senders was erased is dropped and audited; returns how many were.
        Of those that were not accepted, the newest 10,000 of the last 30 days stay; the others
        stay until they are settled.
        """

    async def list_quarantined(
        self, channel_config_id: str | None, *, before: int | None, limit: int
    ) -> QuarantinePage:
        """Return requests that are not settled, newest first."""

    async def find_quarantined(self, entry_id: str) -> bytes | None:
        """Return a request's payload, None when there is none or it is settled."""

    async def discard_quarantined(self, entry_ids: Sequence[str], *, actor: str = GATEWAY) -> int:
        """Settle requests, and forget what was in them; return how many weren't settled yet."""

    async def find_quarantined_after(
        self, channel_config_id: str, *, after: int, limit: int
    ) -> Sequence[QuarantineKey]:
        """Return requests of a channel that are not settled, with numbers above `after`, oldest first."""

    async def audit(self, entry: AuditEntry) -> None:
        """Record something that changes nothing: that somebody looked. The store numbers and times it."""

    async def list_audit(self, action: str | None, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
        """Return audit entries with numbers below `before`, newest first.

        Methods with an `actor` or an `entry` write them, in the transaction of what they do, and only
        if they do something. Nothing changes or removes them.
        """

    async def load_summary(self, *, most_channels: int) -> Summary:
        """Return how the store stands, with the first channels by id."""


class FeedStore(Protocol):
    """The deliveries: leased one at a time a conversation, in order."""

    async def claim(self, destination: str, *, limit: int, max_bytes: int, lease_seconds: float | None) -> Claimed:
        """Lease the oldest unsettled delivery of up to `limit` conversations that have none out.

        Those that have been ready longest come first. Stops when the payloads reach
        `max_bytes`, but never before the first. Without `lease_seconds`, the destination's.
        Costs the same whatever waits behind the claimed ones. A claim that is lost by a power
        failure is a redelivery, so it needs not be on disk; its attempt number can then repeat.

        A lease whose time is over needs no sweeping: the next claim ends it, as a failed attempt,
        and leaves the delivery to its back-off, or to the dead letters when that was the last one.
        """

    async def settle(self, destination: str, settlements: Sequence[Settlement]) -> Sequence[AckStatus]:
        """Settle deliveries, each if its token is that of the claim which is out; one status each, in order.

        An acknowledged delivery is never claimed again and its conversation goes on. A failed
        attempt (NACK, BREAK) waits for its back-off, and is dead-lettered in the same transaction
        when it was the last one. A token whose lease has run out can still acknowledge until the
        delivery is claimed again, dead-lettered or moved, or something is put before it; for
        everything else it is STALE.
        """

    async def assign(
        self,
        conversation: Conversation,
        destination: str | None,
        *,
        ttl_seconds: float,
        ack: DeliveryKey | None = None,
        actor: str = GATEWAY,
    ) -> AssignmentOutcome:
        """Acknowledge `ack`, let the conversation stay with `destination`, and move there what waits, all at once.

        What moves is what is not delivered yet in each message's first destination, but no
        replays; it waits in order there, also at an unordered destination. While any of those
        is out, they can't be claimed; when it is acknowledged they can, and when its attempt ends
        otherwise it moves too, with its attempts forgotten. With None the assignment ends and
        nothing moves.
        """

    async def find_assignment(self, conversation: Conversation) -> Assignment | None:
        """Return where a conversation stays now, None where its routes say."""

    async def list_destinations(self) -> Sequence[DestinationStatus]:
        """Return every destination that was ever named or that something waits in, by name.

        What waits is counted for the call, `counted_at` tells when. Where more than 100,000 conversations
        and dead letters wait, over all destinations, it may be older: it is kept for 5 s, or for 20 times as
        long as the count took. When a count takes more than a moment, the one before it is returned; where
        there is none yet, or only one of fewer, raises `errors.StoreUnavailable`: the count goes on.
        """

    async def update_destination(
        self, name: str, change: Callable[[DestinationSettings], DestinationSettings], *, actor: str = GATEWAY
    ) -> DestinationSettings:
        """Store what `change` makes of a destination's settings, and return it; make the destination if need be.

        `change` runs inside the transaction, perhaps more than once, and may raise a `GatewayError`.
        """

    async def list_dead_letters(
        self, which: DeadLetterSelection, *, before: int | None, limit: int
    ) -> Sequence[DeadLetter]:
        """Return dead letters with numbers below `before`, newest first. With keys: all of those, `limit` or not."""

    async def redrive(self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY) -> SettledPage:
        """Put dead letters with numbers above `after` back, oldest first, in front as `release` does it.

        Their attempts start anew. Replayed ones go back into the lane of replays. The listener
        hears of the destinations.
        """

    async def discard_dead_letters(
        self, which: DeadLetterSelection, *, after: int, limit: int, actor: str = GATEWAY
    ) -> SettledPage:
        """Settle dead letters with numbers above `after`, oldest first, without delivering them."""


class ReplayStore(Protocol):
    """Replays: stored messages that are delivered again."""

    async def count_replay(self, destination: str, selection: ReplaySelection) -> int:
        """Return how many messages a replay would deliver now: stored, not held, discarded or unsettled there."""

    async def start_replay(self, replay: Replay, *, actor: str = GATEWAY) -> Replay:
        """Record a replay; it begins with the next `advance_replays`. A known id changes nothing.

        Returns the replay as stored. What is stored after it began isn't replayed. Each replay delivers what it
        selects, whatever others bring at the same time.
        """

    async def advance_replays(self) -> int | None:
        """Queue the next part of every replay that is due, at its rate; return when the next one is due.

        A part goes into lanes of its own, in the order of the sequences, and is recorded in the
        same transaction, so that a crash repeats and skips nothing. Bounded work a call.
        """

    async def find_replay(self, replay_id: str) -> Replay | None:
        """Return a replay, None when there is none."""

    async def list_replays(self, *, before: int | None, limit: int) -> ReplayPage:
        """Return replays, newest first."""

    async def cancel_replay(self, replay_id: str, *, actor: str = GATEWAY) -> Replay | None:
        """End a replay where it is. A repeat, or the end of one that is over, changes nothing."""


class RetentionStore(Protocol):
    """What is removed, by time or by request."""

    async def prune(self, *, limit: int) -> int:
        """Remove messages that are settled and past their retention; return how many settled deliveries it looked at.

        A message goes when each of its deliveries was settled longer ago than its destination's
        retention, and so does one that was discarded while held, after the default retention.
        Held, dead-lettered and undelivered ones never go. With them go their clashes, failed
        attempts and, where nothing of the conversation is left, its empty lanes; also expired
        assignments. Looks at no more than `limit` settled deliveries; 0 means that there is no
        more to do now.
        """

    async def erase_sender(self, conversation: Conversation, *, limit: int, actor: str = GATEWAY) -> ErasedCounts:
        """Remove up to `limit` messages of a sender and all that belongs to them; see `EraseSender` of the contract.

        The first call keeps the keyed hash of the conversation, so that what was received before
        can't come back. Nothing of it stays readable in the database's files. A repeat that finds
        nothing is not audited.
        """


class Store(DirectoryStore, MessageStore, AsideStore, FeedStore, ReplayStore, RetentionStore, Protocol):
    """Everything that the service keeps."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write too, so that a listener has to look again by itself."""

    def listen(self, listener: StoreListener) -> None:
        """Let `listener` hear of every commit from now on."""

    async def check_alive(self) -> None:
        """Return when the store has written something and committed it."""

    async def find_concerns(self) -> Sequence[str]:
        """Return what is wrong with how the database is set up, although it works; each with what to do."""

    async def close(self) -> None:
        """Finish what was asked for and let go of the database. A repeat does nothing."""


Clock = Callable[[], int]
"""Tells the time in microseconds since 1970."""
