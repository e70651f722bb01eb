"""Claims for the consumers of one destination what they have room for.

Nothing polls: it sleeps until a commit, a settlement or the clock gives it
something to do. What comes while it claims is in its next claim, so it
batches by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from service.errors import StoreUnavailable
from service.feed.consumer import Consumer
from service.models import AckStatus, AckToken, ClaimedDelivery, Settlement, SettlementKind
from service.store.contract import Clock, FeedStore

log = logging.getLogger(__name__)

MOST_IN_A_CLAIM = 500
MOST_BYTES_IN_A_CLAIM = 8 * 1024 * 1024
LOOK_AGAIN_SECONDS = 1.0
"""How often to look where other processes may write: a wake-up can get lost on the way."""
RETRY_SECONDS = 0.5
SHORTEST_PAUSE_SECONDS = 0.01


class Dispatcher:
    """Serves the consumers of one destination in turn."""

    def __init__(self, destination: str, store: FeedStore, clock: Clock, *, is_shared: bool) -> None:
        self.consumers: deque[Consumer] = deque()
        self._destination = destination
        self._store = store
        self._clock = clock
        self._longest_pause = LOOK_AGAIN_SECONDS if is_shared else None
        self._owners: dict[AckToken, Consumer] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"dispatch {destination}")

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._wake.set()

    def join(self, consumer: Consumer) -> None:
        """Serve a consumer from now on."""
        self.consumers.append(consumer)
        self.wake()

    async def leave(self, consumer: Consumer, taken: SettlementKind | None) -> None:
        """Serve a consumer no longer. What it hasn't taken goes back; to what it has, `taken` happens."""
        self.consumers.remove(consumer)
        self._owners = {token: owner for token, owner in self._owners.items() if owner is not consumer}
        self.wake()
        untaken = [delivery.token for delivery in consumer.take(2**63)]
        settlements = [Settlement(token, SettlementKind.RETURN) for token in untaken]
        if taken is not None:
            settlements += [Settlement(token, taken) for token in consumer.outstanding.difference(untaken)]
        await self._settle(settlements)

    async def finish(self) -> None:
        """Return when the last claim is settled. There is no consumer left. Raises what broke it."""
        self.wake()
        await self._task

    def note(self, settlements: Sequence[Settlement], statuses: Sequence[AckStatus]) -> None:
        """Hear of settlements from any connection: they make room."""
        for settlement, status in zip(settlements, statuses, strict=True):
            owner = self._owners.get(settlement.token)
            if owner is None:
                continue
            if settlement.kind is SettlementKind.EXTEND and status is AckStatus.OK:
                owner.extend(settlement.token, self._clock() + round((settlement.seconds or 0.0) * 1_000_000))
                continue
            owner.release(settlement.token)
            del self._owners[settlement.token]
        self.wake()

    @property
    def is_over(self) -> bool:
        """Whether it serves nobody any more."""
        return self._task.done()

    async def _run(self) -> None:
        try:
            while self.consumers:
                self._wake.clear()
                await self._sleep(await self._serve())
        finally:  # there are any only when this breaks: their calls end, and the last one tells why
            for consumer in self.consumers:
                consumer.stop()

    async def _sleep(self, seconds: float | None) -> None:
        if self._wake.is_set():
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set) if seconds is not None else None
        try:
            await self._wake.wait()
        finally:
            if timer:
                timer.cancel()

    async def _serve(self) -> float | None:
        """Claim once for each lease that is wanted; return how long there will be nothing to do."""
        self._expire()
        pauses = [self._longest_pause]
        try:
            leases = {consumer.lease_seconds for consumer in self.consumers if consumer.room}
            pauses += [await self._claim(lease_seconds) for lease_seconds in leases]
        except StoreUnavailable as error:
            log.warning("claim_failed", extra={"destination": self._destination, "reason": str(error)})
            pauses.append(RETRY_SECONDS)
        if any(consumer.room for consumer in self.consumers):
            return min((pause for pause in pauses if pause is not None), default=None)
        return min(
            (pause for consumer in self.consumers if (pause := self._until(consumer.next_expiry_at)) is not None),
            default=None,
        )

    async def _claim(self, lease_seconds: float | None) -> float | None:
        takers = [consumer for consumer in self.consumers if consumer.room and consumer.lease_seconds == lease_seconds]
        if not takers:
            return None
        limit = min(MOST_IN_A_CLAIM, sum(consumer.room for consumer in takers))
        most_bytes = min(MOST_BYTES_IN_A_CLAIM, sum(consumer.bytes_left for consumer in takers))
        claimed = await self._store.claim(
            self._destination, limit=limit, max_bytes=most_bytes, lease_seconds=lease_seconds
        )
        await self._settle(
            [
                Settlement(delivery.token, SettlementKind.RETURN)
                for delivery in claimed.deliveries
                if not self._hand(delivery, lease_seconds)
            ]
        )
        # Where nothing came although something is due, another process has it: don't spin.
        return self._until(claimed.next_due_at, at_least=0.0 if claimed.deliveries else SHORTEST_PAUSE_SECONDS)

    def _hand(self, delivery: ClaimedDelivery, lease_seconds: float | None) -> bool:
        """Give a delivery to the next consumer in turn that has room; False when all have left."""
        for _ in range(len(self.consumers)):
            self.consumers.rotate(-1)
            consumer = self.consumers[0]
            if consumer.room and consumer.lease_seconds == lease_seconds:
                self._owners[delivery.token] = consumer
                consumer.hand(delivery)
                return True
        return False

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        if not settlements:
            return
        try:
            await self._store.settle(self._destination, settlements)
        except StoreUnavailable as error:  # then their leases run out
            log.warning("give_back_failed", extra={"destination": self._destination, "reason": str(error)})

    def _expire(self) -> None:
        now = self._clock()
        for consumer in self.consumers:
            for token in consumer.expire(now):
                self._owners.pop(token, None)

    def _until(self, at: int | None, *, at_least: float = 0.0) -> float | None:
        return None if at is None else max(at_least, (at - self._clock()) / 1_000_000)
