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


class StoreListener(Protocol):
    """Hears of commits, on the event loop, soon after them.

    A call may come for nothing, and may be missed when a connection is lost:
    whoever waits looks again at least once a second (`Store.is_shared`), and
    whenever something falls due by the clock.
    """

    def on_ready(self, destinations: Collection[str]) -> None:
        """Something may be claimable in these destinations."""

    def on_directory_change(self) -> None:
        """`find_changes` may have something new."""


class DirectoryStore(Protocol):
    """The channels, with one revision over all of them that grows with every change."""

    async def create_channel(self, channel: Channel) -> Channel:
        """Store a new channel and return it with its revision and times.

        Raises `errors.AlreadyExists` when the id is or ever was in use.
        """

    async def find_channels(self, channel_config_ids: Collection[str]) -> Mapping[str, Channel]:
        """Return those that exist or existed: a deleted one has the state DELETED."""

    async def list_channels(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Return channels in the order of their ids, from the first one after `after`, no deleted ones."""

    async def replace_channel(self, channel: Channel) -> Channel:
        """Store the channel if it still has the revision that `channel` was read with.

        Its routes stay as they are. Raises `errors.NotFound`, also for a deleted one, and
        `errors.Conflict` when the revision is another.
        """

    async def replace_routes(self, channel_config_id: str, routes: Sequence[Route], *, expected: int | None) -> int:
        """Store the routes under the next route revision, which is returned; older ones are kept.

        Raises `errors.NotFound`, and `errors.Conflict` when `expected` is given and isn't the
        current route revision.
        """

    async def delete_channel(self, channel_config_id: str, *, expected: int | None) -> None:
        """Mark the channel as deleted and forget its credentials; the id is not used again.

        Raises `errors.NotFound` (also for a repeat), `errors.Conflict` when `expected` is given
        and isn't its revision, and `errors.StillInUse` while any of its messages is held or
        not acknowledged.
        """

    async def find_changes(self, after: DirectoryPosition | None, *, limit: int) -> ChannelChanges:
        """Return the channels that changed after `after`, deleted ones too, oldest change first.

        From the beginning when `after` is None, of another directory, or ahead of this one
        (then the answer's position has another `directory_id` than `after`, or a smaller
        revision). Never skips the change of a transaction that is still open.
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

    async def release(self, releases: Sequence[Release]) -> int:
        """Give held messages their decisions and deliveries; return how many were still held.

        In the order of their sequences, and before what is not delivered yet in each of their
        conversations, but after a delivery that is out. A decision that holds leaves its
        message held, for that reason. The listener hears of the destinations.
        """

    async def discard(self, sequences: Sequence[int]) -> int:
        """Settle held messages without delivering them; return how many were still held."""

    async def load_payloads(self, sequences: Collection[int]) -> Mapping[int, bytes]:
        """Return the payloads of stored messages."""

    async def keep_clash(self, sequence: int, fingerprint: bytes, payload: bytes) -> None:
        """Keep a message that came with the id of the one at `sequence`; count it for the channel.

        One with a known fingerprint, or the eleventh of a message, is counted only.
        """

    async def find_clashes(self, sequence: int) -> Sequence[Clash]:
        """Return what `keep_clash` kept, oldest first."""

    async def quarantine(self, requests: Sequence[QuarantinedRequest]) -> None:
        """Keep requests. One whose entry id is known already, also a settled one, is not kept again.

        Of those that were not accepted, the newest 10,000 of the last 30 days stay; the others
        stay until they are settled.
        """

    async def list_quarantined(
        self, channel_config_id: str | None, *, before: int | None, limit: int
    ) -> QuarantinePage:
        """Return requests that are not settled, newest first."""

    async def find_quarantined(self, entry_id: str) -> bytes | None:
        """Return a request's payload, None when there is none or it is settled."""

    async def discard_quarantined(self, entry_ids: Sequence[str]) -> int:
        """Settle requests, and forget what was in them; return how many weren't settled yet."""

    async def load_summary(self, *, most_channels: int) -> Summary:
        """Return how the store stands, with the first channels by id."""


class FeedStore(Protocol):
    """The deliveries: leased one at a time a conversation, in order."""

    async def claim(self, destination: str, *, limit: int, max_bytes: int, lease_seconds: float) -> Claimed:
        """Lease the oldest unsettled delivery of up to `limit` conversations that have none out.

        Those that have been ready longest come first. Stops when the payloads reach
        `max_bytes`, but never before the first. A lease whose time is over needs no sweeping:
        it is simply claimed again. Costs the same whatever waits behind the claimed ones. A
        claim that is lost by a power failure is a redelivery, so it needs not be on disk; its
        attempt number can then repeat.
        """

    async def settle(self, destination: str, settlements: Sequence[Settlement]) -> Sequence[AckStatus]:
        """Settle deliveries, each if its token is that of the claim which is out; one status each, in order.

        An acknowledged delivery is never claimed again and its conversation goes on. A token
        whose lease has run out is still good until the delivery is claimed again.
        """

    async def list_destinations(self) -> Sequence[DestinationStatus]:
        """Return every destination that a channel or route names or that something waits in, by name."""


class Store(DirectoryStore, MessageStore, AsideStore, FeedStore, Protocol):
    """Everything that the service keeps."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write too, so that a listener has to look again by itself."""

    def listen(self, listener: StoreListener) -> None:
        """Let `listener` hear of every commit from now on."""

    async def check_alive(self) -> None:
        """Return when the store has written something and committed it."""

    async def close(self) -> None:
        """Finish what was asked for and let go of the database. A repeat does nothing."""


Clock = Callable[[], int]
"""Tells the time in microseconds since 1970."""
