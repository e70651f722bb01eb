"""One who receives deliveries, and how much room it has."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from service.errors import Stopping
from service.models import AckToken, ClaimedDelivery


class Consumer:
    """Has room while fewer messages and bytes than its credits are unsettled.

    `lease_seconds`: of each delivery; None for the destination's.
    """

    def __init__(self, *, messages: int, size: int, lease_seconds: float | None) -> None:
        self.lease_seconds = lease_seconds
        self.bytes_left = size
        self._messages = messages
        self._outstanding: dict[AckToken, tuple[int, int]] = {}
        self._inbox: deque[ClaimedDelivery] = deque()
        self._changed = asyncio.Event()
        self._is_stopped = False

    @property
    def room(self) -> int:
        """How many messages may be handed to it now; the last one may go past its bytes."""
        return self._messages - len(self._outstanding) if self.bytes_left > 0 else 0

    @property
    def outstanding(self) -> frozenset[AckToken]:
        """What was handed to it and is neither settled nor expired."""
        return frozenset(self._outstanding)

    def hand(self, delivery: ClaimedDelivery) -> None:
        """Put a delivery into its inbox."""
        size = len(delivery.payload)
        self._outstanding[delivery.token] = (size, delivery.deadline_at)
        self.bytes_left -= size
        self._inbox.append(delivery)
        self._changed.set()

    def release(self, token: AckToken) -> None:
        """Make room: this delivery is settled, or its lease is over."""
        size, _ = self._outstanding.pop(token, (0, 0))
        self.bytes_left += size

    def extend(self, token: AckToken, deadline_at: int) -> None:
        """Note when a lease ends now."""
        if token in self._outstanding:
            size, _ = self._outstanding.pop(token)
            self._outstanding[token] = (size, deadline_at)

    @property
    def next_expiry_at(self) -> int | None:
        """When its longest-held lease ends."""
        return next((deadline_at for _, deadline_at in self._outstanding.values()), None)

    def expire(self, now: int) -> Iterator[AckToken]:
        """Make room for what is leased no longer, and yield it. Leases end about in the order they began."""
        while (expiry_at := self.next_expiry_at) is not None and expiry_at <= now:
            token = next(iter(self._outstanding))
            self.release(token)
            yield token

    def stop(self) -> None:
        """Let it receive what is in its inbox and then `errors.Stopping`."""
        self._is_stopped = True
        self._changed.set()

    def notify(self) -> None:
        """Wake `wait`: there is something for this consumer that is no delivery."""
        self._changed.set()

    async def wait(self) -> None:
        """Return when there is something new. Raises `errors.Stopping` when there never will be."""
        if self._inbox:
            return
        if not self._is_stopped:
            await self._changed.wait()
            self._changed.clear()
        if self._is_stopped and not self._inbox:
            raise Stopping("the service stops; call again")

    def take(self, most_bytes: int) -> Sequence[ClaimedDelivery]:
        """Return what is in the inbox, up to `most_bytes`, but the first in any case."""
        taken: list[ClaimedDelivery] = []
        size = 0
        while self._inbox and (not taken or size + len(self._inbox[0].payload) <= most_bytes):
            taken.append(self._inbox.popleft())
            size += len(taken[-1].payload)
        return taken
