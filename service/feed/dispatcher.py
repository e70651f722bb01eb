"""Claims for the consumers of one destination what they have room for.

Nothing polls: it sleeps until a commit, a settlement or the clock gives it
something to do. What comes while it claims is in its next claim, so it
batches by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence

from service.errors import StoreUnavailable
from service.feed.consumer import Consumer
from service.models import AckStatus, AckToken, ClaimedDelivery, Settlement, SettlementKind
from service.store.contract import Clock, FeedStore

log = logging.getLogger(__name__)

MOST_IN_A_CLAIM = 500
MOST_BYTES_IN_A_CLAIM = 8 * 1024 * 1024
MOST_ENDED_AT_ONCE = 500
"""So that others come in between when a consumer goes that had thousands."""
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
        await self._end(consumer.take_back(), SettlementKind.RETURN)
        if taken is not None:
            await self._end(consumer.outstanding, taken)

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
        """Do what there is to do; return for how long there will be nothing."""
        await self._take_back()
        pauses = [self._longest_pause]
        try:
            pauses.append(await self._claim_in_turn())
        except StoreUnavailable as error:
            log.warning("claim_failed", extra={"destination": self._destination, "reason": str(error)})
            pauses.append(RETRY_SECONDS)
        pauses += [self._until(consumer.look_again_at) for consumer in self.consumers]
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _take_back(self) -> None:
        """Take leases that are over from their consumers, and untaken deliveries from those who don't read."""
        now = self._clock()
        untaken: list[AckToken] = []
        for consumer in self.consumers:
            untaken += consumer.take_back_if_stalled(now)
            self._disown(consumer.expire(now))
        self._disown(untaken)
        await self._end(untaken, SettlementKind.RETURN)

    async def _claim_in_turn(self) -> float | None:
        """Claim for each lease that is wanted, as long as something is due; return when to claim again."""
        pause: float | None = None
        for lease_seconds in dict.fromkeys(consumer.lease_seconds for consumer in self.consumers if consumer.room):
            pause = await self._claim(lease_seconds)
            if pause != 0.0:
                break
        return pause if any(consumer.room for consumer in self.consumers) else None

    async def _claim(self, lease_seconds: float | None) -> float | None:
        takers = self._takers(lease_seconds)
        if not takers:
            return 0.0
        claimed = await self._store.claim(
            self._destination,
            limit=min(MOST_IN_A_CLAIM, sum(consumer.room for consumer in takers)),
            max_bytes=min(MOST_BYTES_IN_A_CLAIM, sum(consumer.bytes_left for consumer in takers)),
            lease_seconds=lease_seconds,
        )
        await self._end(self._hand_out(claimed.deliveries, lease_seconds), SettlementKind.RETURN)
        # Where nothing came although something is due, another process has it: don't spin.
        return self._until(claimed.next_due_at, at_least=0.0 if claimed.deliveries else SHORTEST_PAUSE_SECONDS)

    def _takers(self, lease_seconds: float | None) -> deque[Consumer]:
        return deque(each for each in self.consumers if each.lease_seconds == lease_seconds and each.room)

    def _hand_out(self, deliveries: Sequence[ClaimedDelivery], lease_seconds: float | None) -> Sequence[AckToken]:
        """Give deliveries to the consumers in turn; return what nobody has room for, since some have left."""
        takers = self._takers(lease_seconds)
        now = self._clock()
        for number, delivery in enumerate(deliveries):
            while takers and not takers[0].room:
                takers.popleft()
            if not takers:
                return [each.token for each in deliveries[number:]]
            self._owners[delivery.token] = takers[0]
            takers[0].hand(delivery, now)
            takers.rotate(-1)
        if deliveries:
            self._begin_after(takers[-1])
        return ()

    def _begin_after(self, consumer: Consumer) -> None:
        """Let the one behind this one be the first in turn."""
        self.consumers.rotate(-1 - self.consumers.index(consumer))

    async def _end(self, tokens: Sequence[AckToken], kind: SettlementKind) -> None:
        """End leases. Those of what can't be settled run out."""
        try:
            for start in range(0, len(tokens), MOST_ENDED_AT_ONCE):
                some = tokens[start : start + MOST_ENDED_AT_ONCE]
                await self._store.settle(self._destination, [Settlement(token, kind) for token in some])
        except StoreUnavailable as error:
            log.warning("give_back_failed", extra={"destination": self._destination, "reason": str(error)})

    def _disown(self, tokens: Iterable[AckToken]) -> None:
        for token in tokens:
            self._owners.pop(token, None)

    def _until(self, at: int | None, *, at_least: float = 0.0) -> float | None:
        return None if at is None else max(at_least, (at - self._clock()) / 1_000_000)
