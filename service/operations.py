"""What operators do with messages that wait for them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from service.models import (
    ChannelState,
    Decision,
    HeldMessage,
    HeldSelection,
    HoldReason,
    MessageFacts,
    MessageKey,
    MessageState,
    Release,
    ReRouting,
    StoredMessage,
)
from service.routed_channels import RoutedChannel, RoutedChannels
from service.routing import route
from service.store.contract import Store

HELD_AT_ONCE = 1000


class Outcome(NamedTuple):
    """What became of a page of held messages. `next_after`: where the next page starts, None on the last."""

    settled: int
    still_held: int
    next_after: int | None


class ReRouteOutcome(enum.Enum):
    """What re-routing did to a message."""

    RELEASED = "released"
    MOVED = "moved"
    UNCHANGED = "unchanged"
    UNROUTED = "unrouted"
    DISCARDED = "discarded"
    NOT_FOUND = "not found"


class ReRouted(NamedTuple):
    """What became of a message, and where it goes now if there is one that goes anywhere."""

    outcome: ReRouteOutcome
    decision: Decision | None = None


class HeldMessages:
    """Releases and discards held messages, a page at a time; routes stored ones anew."""

    def __init__(self, store: Store, channels: RoutedChannels, read_facts: Callable[[bytes], MessageFacts]) -> None:
        self._store = store
        self._channels = channels
        self._read_facts = read_facts

    async def release(self, which: HeldSelection, *, destination: str, after: int, actor: str) -> Outcome:
        """Hand messages out: by today's routes and assignments, or to `destination`.

        Whoever asks has decided: only UNROUTED holds.
        """
        held = await self._store.find_held(which, after=after, limit=HELD_AT_ONCE)
        releases = await self._route(held) if not destination else _send_to(destination, held)
        wanted = [entry for entry in releases if entry.decision.hold_reason is None]
        released = await self._store.release(wanted, actor=actor) if wanted else ()
        return Outcome(len(released), len(releases) - len(wanted), _next_after(held))

    async def re_route(self, keys: Sequence[MessageKey], *, actor: str) -> Sequence[ReRouted]:
        """Route stored messages anew; one result a key, in order."""
        found = {key: await self._store.find_message(*key) for key in dict.fromkeys(keys)}
        open_ones = {
            key: HeldMessage(stored.sequence, key.channel_config_id, stored.payload)
            for key, stored in found.items()
            if stored is not None and stored.state is not MessageState.DISCARDED
        }
        routed = dict(zip(open_ones, await self._route(list(open_ones.values())), strict=True))
        wanted = [release for release in routed.values() if release.decision.hold_reason is None]
        held = {stored.sequence for stored in found.values() if stored and stored.state is MessageState.HELD}
        releases = [release for release in wanted if release.sequence in held]
        released = await self._store.release(releases, actor=actor) if releases else {}
        moved = await self._store.re_route([each for each in wanted if each.sequence not in held], actor=actor)
        return [_re_routed(found[key], routed.get(key), released, moved) for key in keys]

    async def discard(self, which: HeldSelection, *, after: int, actor: str) -> Outcome:
        """Settle messages without handing them out."""
        held = await self._store.find_held(which, after=after, limit=HELD_AT_ONCE)
        discarded = await self._store.discard([message.sequence for message in held], actor=actor) if held else 0
        return Outcome(discarded, 0, _next_after(held))

    async def _route(self, held: Sequence[HeldMessage]) -> Sequence[Release]:
        """Route messages anew, each as of the time when it was received."""
        channels = await self._channels.find({message.channel_config_id for message in held})
        facts = [self._read_facts(message.payload) for message in held]
        decisions = [_decide(channels.get(each.channel_config_id), each) for each in facts]
        return [
            Release(message.sequence, decision, follows_assignment=True)
            for message, decision in zip(held, decisions, strict=True)
        ]


def _re_routed(
    stored: StoredMessage | None,
    release: Release | None,
    released: Mapping[int, Decision],
    moved: Mapping[int, ReRouting],
) -> ReRouted:
    if stored is None:
        return ReRouted(ReRouteOutcome.NOT_FOUND)
    if release is None:
        return ReRouted(ReRouteOutcome.DISCARDED)
    if release.decision.hold_reason is not None:
        return ReRouted(ReRouteOutcome.UNROUTED)
    if stored.sequence in released:
        return ReRouted(ReRouteOutcome.RELEASED, released[stored.sequence])
    if stored.sequence not in moved:  # somebody else has released, discarded or erased it meanwhile
        return ReRouted(ReRouteOutcome.UNCHANGED, release.decision)
    decision, has_changed = moved[stored.sequence]
    return ReRouted(ReRouteOutcome.MOVED if has_changed else ReRouteOutcome.UNCHANGED, decision)


def _send_to(destination: str, held: Sequence[HeldMessage]) -> Sequence[Release]:
    return [Release(message.sequence, Decision((destination,))) for message in held]


def _decide(found: RoutedChannel | None, facts: MessageFacts) -> Decision:
    if found is None or found.channel.state is ChannelState.DELETED:
        return Decision((), HoldReason.UNROUTED)
    return route(found.channel, found.routes, facts)


def _next_after(held: Sequence[HeldMessage]) -> int | None:
    return held[-1].sequence if len(held) == HELD_AT_ONCE else None
