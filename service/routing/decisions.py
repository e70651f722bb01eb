"""Decides where a message goes. Pure: the same channel, routes and message give the same decision."""

from __future__ import annotations

from service.models import Channel, ChannelState, Decision, HoldReason, MessageFacts
from service.routing.index import RouteIndex
from service.routing.texts import without_scheme

HOLDING_STATES = {
    ChannelState.PAUSED: HoldReason.CHANNEL_PAUSED,
    ChannelState.DISABLED: HoldReason.CHANNEL_DISABLED,
    ChannelState.DELETED: HoldReason.CHANNEL_DELETED,
}


def decide(channel: Channel, routes: RouteIndex, facts: MessageFacts, receiver: str) -> Decision:
    """Route a message that comes in; the channel's state or number may hold it all the same."""
    decision = route(channel, routes, facts)
    if channel.state is not ChannelState.ENABLED:
        return decision._replace(hold_reason=HOLDING_STATES[channel.state])
    if channel.number and without_scheme(receiver) != channel.number:
        return decision._replace(hold_reason=HoldReason.RECIPIENT_MISMATCH)
    return decision


def route(channel: Channel, routes: RouteIndex, facts: MessageFacts) -> Decision:
    """Decide by the routes (the first match wins), then the channel's destination; else the message is held."""
    match = routes.find(facts)
    if match:
        destinations, route_id = match.destinations, match.route_id
    else:
        destinations, route_id = (channel.destination,) if channel.destination else (), ""
    hold_reason = None if destinations else HoldReason.UNROUTED
    return Decision(destinations, hold_reason, route_id, channel.route_revision, None, channel.affinity_seconds)
