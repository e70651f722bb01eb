"""What operators do with messages that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from service.models import ChannelState, Decision, HeldMessage, HeldSelection, MessageFacts, Release
from service.routed_channels import RoutedChannel, RoutedChannels
from service.routing import route
from service.store.contract import AsideStore

HELD_AT_ONCE = 1000


class Outcome(NamedTuple):
    """What became of a page of held messages. `next_after`: where the next page starts, None on the last."""

    settled: int
    still_held: int
    next_after: int | None


class HeldMessages:
    """Releases and discards held messages, a page at a time."""

    def __init__(
        self, store: AsideStore, channels: RoutedChannels, read_facts: Callable[[bytes], MessageFacts]
    ) -> None:
        self._store = store
        self._channels = channels
        self._read_facts = read_facts

    async def release(self, which: HeldSelection, *, destination: str, after: int) -> Outcome:
        """Hand messages out: by today's routes, or to `destination`. Whoever asks has decided: only UNROUTED holds."""
        held = await self._store.find_held(which, after=after, limit=HELD_AT_ONCE)
        channels = await self._channels.find({message.channel_config_id for message in held})
        releases = [
            Release(message.sequence, self._decide(message, channels.get(message.channel_config_id), destination))
            for message in held
        ]
        wanted = [entry for entry in releases if entry.decision.hold_reason is None]
        released = await self._store.release(wanted) if wanted else 0
        return Outcome(released, len(releases) - len(wanted), _next_after(held))

    async def discard(self, which: HeldSelection, *, after: int) -> Outcome:
        """Settle messages without handing them out."""
        held = await self._store.find_held(which, after=after, limit=HELD_AT_ONCE)
        discarded = await self._store.discard([message.sequence for message in held]) if held else 0
        return Outcome(discarded, 0, _next_after(held))

    def _decide(self, message: HeldMessage, found: RoutedChannel | None, destination: str) -> Decision:
        if destination:
            return Decision((destination,))
        if found is None or found.channel.state is ChannelState.DELETED:
            return route(None, (), self._read_facts(message.payload))
        return route(found.channel, found.routes, self._read_facts(message.payload))


def _next_after(held: Sequence[HeldMessage]) -> int | None:
    return held[-1].sequence if len(held) == HELD_AT_ONCE else None
