"""Channels, routes and what routes look at: protobuf to records and back. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_pb2 as message_pb
from google.protobuf.duration_pb2 import Duration

from service.directory import change_user
from service.errors import InvalidRequest, Violation
from service.models import (
    Channel,
    ChannelState,
    Credentials,
    MessageFacts,
    Route,
    RouteRevision,
    SignatureCheck,
    TimeWindow,
)
from service.routing import canonical_type
from service.rpc import convert_signatures as signatures
from service.rpc.convert import TYPE_NAMES, from_timestamp, to_timestamp

STATES = {
    ChannelState.ENABLED: directory_pb.CHANNEL_STATE_ENABLED,
    ChannelState.DISABLED: directory_pb.CHANNEL_STATE_DISABLED,
    ChannelState.PAUSED: directory_pb.CHANNEL_STATE_PAUSED,
}
STATES_BACK = {value: state for state, value in STATES.items()}

DAYS = directory_pb.DayOfWeek.values()
"""Each day at its number."""

UNREADABLE = -1
"""Stands for what is no such number: out of every range, so the checks refuse it with the rest."""

CLOCK = re.compile(r"([0-9]{2}):([0-5][0-9])", re.ASCII)


def to_channel(channel: Channel) -> directory_pb.Channel:
    message = directory_pb.Channel(
        channel_config_id=channel.channel_config_id,
        provider=channel.provider,
        number=channel.number,
        webhook_user=channel.credentials.webhook_user,
        state=STATES[channel.state],
        destination=channel.destination,
        infer_message_type=channel.infer_message_type,
        affinity=Duration(seconds=channel.affinity_seconds) if channel.affinity_seconds else None,
        signature_check=signatures.CHECKS[channel.signature_check],
        signature_secrets=[signatures.to_secret(secret) for secret in channel.signature_secrets],
        etag=str(channel.revision),
        route_revision=channel.route_revision,
        create_time=to_timestamp(channel.created_at),
        update_time=to_timestamp(channel.updated_at),
    )
    if channel.credentials.previous_password_expires_at is not None:
        message.previous_password_expire_time.CopyFrom(to_timestamp(channel.credentials.previous_password_expires_at))
    return message


def from_new_channel(message: directory_pb.Channel) -> Channel:
    return Channel(
        channel_config_id=message.channel_config_id,
        provider=message.provider or "twilio",
        credentials=Credentials(message.webhook_user, ""),
        number=message.number,
        state=STATES_BACK.get(message.state, ChannelState.ENABLED),
        destination=message.destination if message.HasField("destination") else None,
        infer_message_type=message.infer_message_type,
        affinity_seconds=_whole_seconds(message.affinity),
        signature_check=signatures.CHECKS_BACK.get(message.signature_check, SignatureCheck.OFF),
    )


def change_channel(channel: Channel, wanted: directory_pb.Channel, paths: Sequence[str]) -> Channel:
    """Return the channel with the fields of the mask changed. Raises `InvalidRequest` for other paths."""
    changes = {
        "number": lambda: replace(channel, number=wanted.number),
        "webhook_user": lambda: replace(channel, credentials=change_user(channel.credentials, wanted.webhook_user)),
        "state": lambda: replace(channel, state=STATES_BACK[wanted.state]),
        "destination": lambda: replace(
            channel, destination=wanted.destination if wanted.HasField("destination") else None
        ),
        "infer_message_type": lambda: replace(channel, infer_message_type=wanted.infer_message_type),
        "affinity": lambda: replace(channel, affinity_seconds=_whole_seconds(wanted.affinity)),
        "signature_check": lambda: replace(channel, signature_check=signatures.CHECKS_BACK[wanted.signature_check]),
    }
    violations = [
        Violation("update_mask", f'can\'t change "{path[:64]}"; can change: {", ".join(changes)}')
        for path in paths
        if path not in changes
    ]
    if not paths:
        violations.append(Violation("update_mask", f"must name what to change: {', '.join(changes)}"))
    if "state" in paths and wanted.state not in STATES_BACK:
        violations.append(Violation("state", "must be enabled, disabled or paused"))
    if "signature_check" in paths and wanted.signature_check not in signatures.CHECKS_BACK:
        violations.append(Violation("signature_check", "must be off, observe or enforce"))
    if violations:
        raise InvalidRequest(violations)
    for path in paths:
        channel = changes[path]()
    return channel


def to_replica(channel: Channel) -> directory_pb.ChannelReplica:
    if channel.state is ChannelState.DELETED:
        return directory_pb.ChannelReplica(
            channel_config_id=channel.channel_config_id, revision=channel.revision, deleted=True
        )
    credentials = channel.credentials
    hashes = [directory_pb.PasswordHash(phc=credentials.password_hash, password_id=credentials.password_id)]
    if credentials.previous_password_hash and credentials.previous_password_expires_at is not None:
        previous = directory_pb.PasswordHash(
            phc=credentials.previous_password_hash,
            expire_time=to_timestamp(credentials.previous_password_expires_at),
            password_id=credentials.previous_password_id or "",
        )
        hashes.append(previous)
    return directory_pb.ChannelReplica(
        channel_config_id=channel.channel_config_id,
        revision=channel.revision,
        provider=channel.provider,
        state=STATES[channel.state],
        webhook_user=credentials.webhook_user,
        password_hashes=hashes,
        credential_revision=credentials.revision,
        infer_message_type=channel.infer_message_type,
        signature_check=signatures.CHECKS[channel.signature_check],
        signature_secrets=[signatures.to_sealed(secret) for secret in channel.signature_secrets],
    )


def to_route(route: Route) -> directory_pb.Route:
    match = directory_pb.RouteMatch(
        message_types=route.message_types,
        keywords=route.keywords,
        body_pattern=route.body_pattern,
        sender_prefixes=route.sender_prefixes,
        button_payloads=route.button_payloads,
        is_reply=route.is_reply,
        has_referral=route.has_referral,
        time_windows=[_to_window(window) for window in route.time_windows],
        percentage=None if route.basis_points is None else route.basis_points / 100,
    )
    return directory_pb.Route(route_id=route.route_id, match=match, destinations=route.destinations)


def from_route(message: directory_pb.Route) -> Route:
    """Return the route as it was asked for, which need not be a valid one."""
    match = message.match
    return Route(
        route_id=message.route_id,
        destinations=tuple(message.destinations),
        message_types=tuple(match.message_types),
        keywords=tuple(match.keywords),
        body_pattern=match.body_pattern if match.HasField("body_pattern") else None,
        sender_prefixes=tuple(match.sender_prefixes),
        button_payloads=tuple(match.button_payloads),
        is_reply=match.is_reply if match.HasField("is_reply") else None,
        has_referral=match.has_referral if match.HasField("has_referral") else None,
        time_windows=tuple(_from_window(window) for window in match.time_windows),
        basis_points=_basis_points(match.percentage) if match.HasField("percentage") else None,
    )


def to_route_revision(revision: RouteRevision) -> directory_pb.RouteRevision:
    return directory_pb.RouteRevision(
        revision=revision.revision,
        create_time=to_timestamp(revision.created_at),
        routes=[to_route(route) for route in revision.routes],
    )


def _to_window(window: TimeWindow) -> directory_pb.TimeWindow:
    return directory_pb.TimeWindow(
        time_zone=window.time_zone,
        days=[DAYS[day] for day in window.days],
        start=_clock(window.start),
        end=_clock(window.end),
    )


def _from_window(message: directory_pb.TimeWindow) -> TimeWindow:
    return TimeWindow(
        time_zone=message.time_zone or "UTC",
        days=tuple(message.days),
        start=_minutes(message.start or "00:00"),
        end=_minutes(message.end or "24:00"),
    )


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _minutes(clock: str) -> int:
    found = CLOCK.fullmatch(clock)
    return int(found[1]) * 60 + int(found[2]) if found else UNREADABLE


def _basis_points(percentage: float) -> int:
    """Return hundredths of a percent; UNREADABLE where there are more than two decimals, or no number."""
    if not math.isfinite(percentage):
        return UNREADABLE
    points = round(percentage * 100)
    return points if math.isclose(points, percentage * 100, rel_tol=0, abs_tol=1e-6) else UNREADABLE


def _whole_seconds(duration: Duration) -> int:
    return UNREADABLE if duration.nanos else duration.seconds


def facts_of(message: message_pb.MoMessage) -> MessageFacts:
    """Return what routes look at. A reply, a button or a referral is one that is there, whatever is in it."""
    sent = canonical_type(message.message_type_name)
    known = TYPE_NAMES.get(message.message_type, "")
    return MessageFacts(
        channel_config_id=message.channel_config_id,
        received_at=from_timestamp(message.receive_time),
        type_names=(sent, known) if sent else (known,),
        sender=message.sender,
        body=message.body if message.HasField("body") else None,
        button_payload=message.button.payload if message.button.HasField("payload") else None,
        is_reply=message.HasField("reply_to"),
        has_referral=message.HasField("referral"),
    )


def read_facts(payload: bytes) -> MessageFacts:
    """Return what routes look at in a stored message."""
    return facts_of(message_pb.MoMessage.FromString(payload))
