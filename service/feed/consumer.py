"""One who receives deliveries, and how much room it has."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from service.errors import Stopping
from service.models import AckToken, ClaimedDelivery

NEVER = 2**63


class Consumer:
    """Has room while fewer messages and bytes than its credits are unsettled, and while it takes what it is handed.

    `lease_seconds`: of each delivery; None for the destination's. `on_room` is called when it takes again after it
    had stopped to.
    """

    def __init__(self, *, messages: int, size: int, lease_seconds: float | None, on_room: Callable[[], None]) -> None:
        self.lease_seconds = lease_seconds
        self.bytes_left = size
        self._messages = messages
        self._on_room = on_room
        self._outstanding: dict[AckToken, tuple[int, int]] = {}
        self._inbox: deque[ClaimedDelivery] = deque()
        self._changed = asyncio.Event()
        self._is_stopped = False
        self._is_stalled = False
        self._stalls_at = NEVER
        self._no_lease_ends_before = NEVER

    @property
    def room(self) -> int:
        """How many messages may be handed to it now; the last one may go past its bytes."""
        return self._messages - len(self._outstanding) if self.bytes_left > 0 and not self._is_stalled else 0

    @property
    def outstanding(self) -> Sequence[AckToken]:
        """What was handed to it and is neither settled nor expired."""
        return tuple(self._outstanding)

    @property
    def look_again_at(self) -> int | None:
        """When `expire` or `take_back_if_stalled` may have something to do; perhaps too early."""
        at = min(self._stalls_at, self._no_lease_ends_before)
        return None if at == NEVER else at

    def hand(self, delivery: ClaimedDelivery, now: int) -> None:
        """Put a delivery into its inbox."""
        size = len(delivery.payload)
        self._outstanding[delivery.token] = (size, delivery.deadline_at)
        self._no_lease_ends_before = min(self._no_lease_ends_before, delivery.deadline_at)
        self.bytes_left -= size
        if not self._inbox:
            self._stalls_at = (now + delivery.deadline_at) // 2
        self._inbox.append(delivery)
        self._changed.set()

    def release(self, token: AckToken) -> None:
        """Make room: this delivery is settled, or its lease is over."""
        size, _ = self._outstanding.pop(token, (0, 0))
        self.bytes_left += size

    def extend(self, token: AckToken, deadline_at: int) -> None:
        """Note when a lease ends now."""
        if token in self._outstanding:
            size, _ = self._outstanding[token]
            self._outstanding[token] = (size, deadline_at)
            self._no_lease_ends_before = min(self._no_lease_ends_before, deadline_at)

    def expire(self, now: int) -> Sequence[AckToken]:
        """Make room for what is leased no longer, and return it.

        Looks at every lease, but only once in about the time that one lasts.
        """
        if now < self._no_lease_ends_before:
            return ()
        expired = [token for token, (_, deadline_at) in self._outstanding.items() if deadline_at <= now]
        for token in expired:
            self.release(token)
        self._no_lease_ends_before = min((deadline_at for _, deadline_at in self._outstanding.values()), default=NEVER)
        return expired

    def take_back_if_stalled(self, now: int) -> Sequence[AckToken]:
        """Empty the inbox of one that takes nothing: when half of a lease has gone by, others may have better use.

        It has no room then until it takes again.
        """
        if now < self._stalls_at:
            return ()
        self._is_stalled = True
        return self.take_back()

    def take_back(self) -> Sequence[AckToken]:
        """Empty the inbox, and return what was in it."""
        tokens = [delivery.token for delivery in self._inbox]
        self._inbox.clear()
        self._stalls_at = NEVER
        for token in tokens:
            self.release(token)
        return tokens

    def stop(self) -> None:
        """Let `wait` raise `errors.Stopping`."""
        self._is_stopped = True
        self._changed.set()

    def notify(self) -> None:
        """Let `wait` return: there is something for this consumer that is no delivery."""
        self._changed.set()

    async def wait(self) -> None:
        """Return when there is something new. Raises `errors.Stopping` when nothing may be taken any more."""
        if not (self._inbox or self._is_stopped):
            await self._changed.wait()
        if self._is_stopped:
            raise Stopping("the service stops; call again")
        self._changed.clear()

    def take(self, most_bytes: int) -> Sequence[ClaimedDelivery]:
        """Return what is in the inbox, up to `most_bytes`, but the first in any case. Nothing when it is stopped."""
        if self._is_stalled:
            self._is_stalled = False
            self._on_room()
        taken: list[ClaimedDelivery] = []
        size = 0
        while self._inbox and not self._is_stopped and (not taken or size + len(self._inbox[0].payload) <= most_bytes):
            taken.append(self._inbox.popleft())
            size += len(taken[-1].payload)
        if not self._inbox:
            self._stalls_at = NEVER
        return taken
