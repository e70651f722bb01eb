"""Twilio's form <-> `MoMessage`.

Nothing is lost: the first occurrence of a parameter that has a field goes there, and everything else into
`other_parameters`. Source of the names: the interface document, and captures of Twilio's real requests.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aicc.mo.v1.message_pb2 import Media, MessageType, MoMessage
from google.protobuf.message import Message

from shim.translation.forms import Form, FormError, Violation

_FIELDS = {
    "MessageSid": "message_sid",
    "From": "sender",
    "To": "receiver",
    "MessageType": "message_type_name",
    "Body": "body",
    "ProfileName": "profile_name",
    "WaId": "wa_id",
    "ExternalUserId": "external_user_id",
    "AccountSid": "account_sid",
    "MessagingServiceSid": "messaging_service_sid",
}
_FLAGS = {"Forwarded": "forwarded", "FrequentlyForwarded": "frequently_forwarded"}
_GROUPS = {
    "location": {"Latitude": "latitude", "Longitude": "longitude", "Address": "address", "Label": "label"},
    "reply_to": {"OriginalRepliedMessageSid": "message_sid", "OriginalRepliedMessageSender": "sender"},
    "button": {"ButtonText": "text", "ButtonPayload": "payload"},
    "referral": {
        "ReferralBody": "body",
        "ReferralHeadline": "headline",
        "ReferralSourceId": "source_id",
        "ReferralSourceType": "source_type",
        "ReferralSourceUrl": "source_url",
        "ReferralMediaId": "media_id",
        "ReferralMediaContentType": "media_content_type",
        "ReferralMediaUrl": "media_url",
        "ReferralCtwaClid": "ctwa_clid",
    },
}
_GROUP_FIELDS = {parameter: (group, field) for group, names in _GROUPS.items() for parameter, field in names.items()}
_MEDIA = re.compile(r"Media(Url|ContentType)(0|[1-9][0-9]{0,8})")
_MEDIA_FIELDS = {"Url": "url", "ContentType": "content_type"}

_UNKNOWN_TYPE = MessageType.MESSAGE_TYPE_UNSPECIFIED
_TYPES = {
    "TEXT": MessageType.MESSAGE_TYPE_TEXT,
    "IMAGE": MessageType.MESSAGE_TYPE_IMAGE,
    "VIDEO": MessageType.MESSAGE_TYPE_VIDEO,
    "VEDIO": MessageType.MESSAGE_TYPE_VIDEO,  # as the interface document spells it
    "AUDIO": MessageType.MESSAGE_TYPE_AUDIO,
    "LOCATION": MessageType.MESSAGE_TYPE_LOCATION,
    "DOCUMENT": MessageType.MESSAGE_TYPE_DOCUMENT,
    "STICKER": MessageType.MESSAGE_TYPE_STICKER,
    "CONTACTS": MessageType.MESSAGE_TYPE_CONTACTS,
    "CONTACT": MessageType.MESSAGE_TYPE_CONTACTS,
    "INTERACTIVE": MessageType.MESSAGE_TYPE_INTERACTIVE,
    "BUTTON": MessageType.MESSAGE_TYPE_BUTTON,
}
_MEDIA_TYPES = {
    "image/webp": MessageType.MESSAGE_TYPE_STICKER,
    "text/vcard": MessageType.MESSAGE_TYPE_CONTACTS,
    "text/x-vcard": MessageType.MESSAGE_TYPE_CONTACTS,
}
_MEDIA_KINDS = {
    "image": MessageType.MESSAGE_TYPE_IMAGE,
    "video": MessageType.MESSAGE_TYPE_VIDEO,
    "audio": MessageType.MESSAGE_TYPE_AUDIO,
}

# The required keys, with the longest value that the service takes.
_KEYS = {"From": 256, "To": 256, "MessageSid": 64}
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

PARAMETER_NAMES = {"sender": "From", "receiver": "To", "message_sid": "MessageSid", "message_type_name": "MessageType"}


def is_status_callback(form: Form) -> bool:
    """Whether the form tells how a message of ours fares: those carry MessageStatus, and no inbound one does.

    `SmsStatus=received` is on every inbound message, and has the last word.
    """
    statuses = dict(reversed([pair for pair in form if pair[0] in {"MessageStatus", "SmsStatus"}]))
    return "MessageStatus" in statuses and statuses.get("SmsStatus") != "received"


def to_message(
    form: Form,
    channel_config_id: str,
    received_at_ns: int,
    infer_message_type: bool,
    make: Callable[..., MoMessage] = MoMessage,
) -> MoMessage:
    """Translate a form. The message is made by `make`: in the batch that it is for, it needn't be copied there.

    Raises `FormError` that names each of From, To, MessageSid and MessageType that is missing, empty or out of
    bounds. With `infer_message_type`, MessageType may be missing or empty.
    """
    fields, groups, others = _sort_into_fields(form)
    _check_required(fields, is_type_required=not infer_message_type)
    media, others = _take_media(others)
    name = fields.get("message_type_name")
    seconds, nanos = divmod(received_at_ns, 1_000_000_000)
    # Parts as dicts, which protobuf takes for messages: half the time of making them one by one.
    return make(
        channel_config_id=channel_config_id,
        message_type=_TYPES.get(name.upper(), _UNKNOWN_TYPE) if name else _infer(groups, media),
        receive_time={"seconds": seconds, "nanos": nanos},
        media=media,
        other_parameters=[{"name": name, "value": value} for name, value in others],
        **fields,
        **groups,
    )


def to_form(message: MoMessage) -> Form:
    """Restore the parameters of the form that became the message: the same ones, as often; the order may differ."""
    return [*_restore_fields(message), *_restore_media(message.media)] + [
        (parameter.name, parameter.value) for parameter in message.other_parameters
    ]


def _sort_into_fields(form: Form) -> tuple[dict[str, Any], dict[str, dict[str, str]], list[tuple[str, str]]]:
    fields: dict[str, Any] = {}
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    others = []
    for name, value in form:
        if (field := _FIELDS.get(name)) and field not in fields:
            fields[field] = value
        elif (place := _GROUP_FIELDS.get(name)) and place[1] not in groups[place[0]]:
            groups[place[0]][place[1]] = value
        elif (flag := _FLAGS.get(name)) and flag not in fields and value in {"true", "false"}:
            fields[flag] = value == "true"
        else:
            others.append((name, value))
    return fields, groups, others


def _take_media(others: list[tuple[str, str]]) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """Take the media items 0, 1, … up to the first gap out of the parameters that have no field."""
    media: list[dict[str, str]] = []
    names = dict(others)
    if "MediaUrl0" not in names and "MediaContentType0" not in names:
        return media, others
    found: dict[tuple[str, int], int] = {}
    for position, (name, _) in enumerate(others):
        if match := _MEDIA.fullmatch(name):
            found.setdefault((match[1], int(match[2])), position)
    taken: set[int] = set()
    while keys := [key for key in (("Url", len(media)), ("ContentType", len(media))) if key in found]:
        media.append({_MEDIA_FIELDS[key[0]]: others[found[key]][1] for key in keys})
        taken.update(found[key] for key in keys)
    return media, [pair for position, pair in enumerate(others) if position not in taken]


def _check_required(fields: dict[str, Any], *, is_type_required: bool) -> None:
    violations = [
        Violation(parameter, detail)
        for parameter, limit in _KEYS.items()
        if (detail := _find_fault(fields.get(_FIELDS[parameter]), limit))
    ]
    if is_type_required and not fields.get("message_type_name"):
        fault = "is empty" if "message_type_name" in fields else "is missing"
        violations.append(Violation("MessageType", f"{fault}; send one, for example text"))
    if violations:
        raise FormError("The form is no valid MO message.", violations)


def _find_fault(value: str | None, limit: int) -> str | None:
    if value is None:
        return f"is missing; send 1 to {limit} characters"
    if not value:
        return f"is empty; send 1 to {limit} characters"
    if len(value) > limit:
        return f"is too long; send 1 to {limit} characters"
    if not value.isprintable() and _CONTROL_CHARACTER.search(value):
        return "has control characters; send it without"
    return None


def _infer(groups: Mapping[str, Mapping[str, str]], media: Sequence[Mapping[str, str]]) -> MessageType.ValueType:
    """Tell the type of a message whose account doesn't send MessageType."""
    if "latitude" in groups.get("location", ()):
        return MessageType.MESSAGE_TYPE_LOCATION
    if not media:
        return MessageType.MESSAGE_TYPE_TEXT
    media_type = media[0].get("content_type", "").partition(";")[0].strip().lower()
    by_kind = _MEDIA_KINDS.get(media_type.partition("/")[0], MessageType.MESSAGE_TYPE_DOCUMENT)
    return _MEDIA_TYPES.get(media_type, by_kind)


def _restore_fields(message: MoMessage) -> Iterator[tuple[str, str]]:
    for parameter, field in _FIELDS.items():
        # The keys have no presence of their own: they are never empty.
        if parameter in _KEYS or _has(message, field):
            yield parameter, getattr(message, field)
    for parameter, flag in _FLAGS.items():
        if _has(message, flag):
            yield parameter, "true" if getattr(message, flag) else "false"
    for parameter, (group, field) in _GROUP_FIELDS.items():
        if _has(getattr(message, group), field):
            yield parameter, getattr(getattr(message, group), field)


def _restore_media(media: Sequence[Media]) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(media):
        if item.HasField("url"):
            yield f"MediaUrl{number}", item.url
        if item.HasField("content_type"):
            yield f"MediaContentType{number}", item.content_type


def _has(message: Message, field: str) -> bool:
    return message.HasField(field)
