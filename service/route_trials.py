"""Tries a draft of a channel's routes on messages that it has had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from service.models import Decision, MessageFacts, MessageFilter
from service.routed_channels import RoutedChannel
from service.routing import RouteIndex, route
from service.store.contract import MessageStore

MOST_DIFFERENCES = 1000
AT_ONCE = 100
"""Messages between two looks at what else there is to do: about 5 ms."""


class Difference(NamedTuple):
    """A message that the draft takes by another route, or to other destinations."""

    payload: bytes
    today: Decision
    draft: Decision


class Trial(NamedTuple):
    """How many messages were tried, how many of them differ, and the newest of those."""

    messages: int
    different: int
    differences: Sequence[Difference]


async def try_routes(
    store: MessageStore,
    today: RoutedChannel,
    draft: RouteIndex,
    read_facts: Callable[[bytes], MessageFacts],
    *,
    most: int,
) -> Trial:
    """Route the channel's newest messages by today's routes and by the draft, as of when they were received."""
    which = MessageFilter(channel_config_id=today.channel.channel_config_id)
    messages, different = 0, 0
    differences: list[Difference] = []
    before: int | None = None
    while messages < most:
        page = await store.list_messages(which, before=before, limit=min(AT_ONCE, most - messages))
        for stored in page.messages:
            facts = read_facts(stored.payload)
            wanted = route(today.channel, draft, facts)
            decision = route(today.channel, today.routes, facts)
            if decision != wanted:
                different += 1
                differences.append(Difference(stored.payload, decision, wanted))
        messages += len(page.messages)
        del differences[MOST_DIFFERENCES:]
        if page.next_before is None:
            break
        before = page.next_before
    return Trial(messages, different, differences)
