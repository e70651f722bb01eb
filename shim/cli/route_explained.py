"""The message whose route is to be explained: described, as JSON, stored, or as the form that Twilio posts."""

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from aicc.mo.v1.channel_directory_pb2 import GetChannelRequest
from aicc.mo.v1.message_ingest_pb2 import ExplainRouteRequest, ExplainRouteResponse
from aicc.mo.v1.message_pb2 import MessageKey, MoMessage
from google.protobuf.json_format import Parse, ParseError

from shim.cli.connection import Connection
from shim.cli.usage import CommandError
from shim.translation import TRANSLATORS
from shim.translation.forms import FormError, parse_form
from shim.translation.twilio import to_message

_DESCRIBING = ("message_type", "body", "sender", "button_payload", "is_reply", "has_referral", "received")
_INSTEAD = {"sid": "--sid", "message_json": "--message-json", "form": "--form"}


def explain_faults(params: Mapping[str, Any]) -> Iterable[str]:
    """Yield what is wrong with the combination of options."""
    given = [flag for name, flag in _INSTEAD.items() if params.get(name) is not None]
    if any(params.get(name) not in {None, False} for name in _DESCRIBING):
        given.append("options that describe a message")
    if len(given) > 1:
        yield f"{' and '.join(given)} exclude each other."


async def explain_stored(service: Connection, channel_config_id: str, sid: str) -> ExplainRouteResponse:
    """Ask for a stored message."""
    key = MessageKey(channel_config_id=channel_config_id, message_sid=sid)
    return await service.ingest.ExplainRoute(ExplainRouteRequest(key=key), timeout=service.timeout)


async def explain_form(service: Connection, channel_config_id: str, body: bytes, name: str) -> ExplainRouteResponse:
    """Ask for a form, translated as the webhook would. Raises `CommandError` with all that is wrong with it."""
    request = GetChannelRequest(channel_config_id=channel_config_id)
    channel = (await service.directory.GetChannel(request, timeout=service.timeout)).channel
    translator = TRANSLATORS.get(channel.provider)
    if translator is None:
        raise CommandError(f'this mo knows no forms of the provider "{channel.provider}"; use a newer one')
    try:
        form = parse_form(body.strip())
        if translator.is_status_callback(form):
            raise CommandError(f"{name} is a status callback: it tells about a message of ours, and is never routed")
        message = translator.to_message(form, channel_config_id, time.time_ns(), channel.infer_message_type)
    except FormError as error:
        faults = [f"{name}: {violation.field} {violation.detail}" for violation in error.violations]
        raise CommandError(*faults or [f"{name}: {error.detail}"]) from error
    return await explain_message(service, channel_config_id, message)


async def explain_message(service: Connection, channel_config_id: str, message: MoMessage) -> ExplainRouteResponse:
    """Ask for a message that need not be stored."""
    message.channel_config_id = channel_config_id
    return await service.ingest.ExplainRoute(ExplainRouteRequest(message=message), timeout=service.timeout)


def described_message(
    *,
    message_type: str | None,
    body: str | None,
    sender: str | None,
    button_payload: str | None,
    received: datetime | None,
    is_reply: bool,
    has_referral: bool,
) -> MoMessage:
    """Build the message the way a webhook's form becomes one, so that both are routed alike."""
    given = {
        "MessageType": message_type or "text",
        "Body": body,
        "ButtonPayload": button_payload,
        "OriginalRepliedMessageSid": "-" if is_reply else None,
        "ReferralSourceId": "-" if has_referral else None,
    }
    form = [("MessageSid", "-"), ("From", sender or "-"), ("To", "-")]
    form += [(name, value) for name, value in given.items() if value is not None]
    message = to_message(form, "", time.time_ns(), infer_message_type=False)
    if received:
        message.receive_time.FromDatetime(received)
    return message


def message_from_json(text: str, name: str) -> MoMessage:
    """Read a MoMessage as JSON. Raises `CommandError`."""
    try:
        if not text.lstrip().startswith("{"):
            raise ParseError("no JSON object")
        return Parse(text, MoMessage())
    except (ParseError, AttributeError, TypeError) as error:
        hint = "`mo message show --include-text --json` prints one in `message`"
        raise CommandError(f"{name} is no MoMessage as JSON; {hint}") from error
