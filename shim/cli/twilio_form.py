"""The form that Twilio would post for a message. Pure.

Names, order and defaults are those of real captures; the numbers are set aside
for fiction.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Form = list[tuple[str, str]]

SENDER = "whatsapp:+447700900123"
RECEIVER = "whatsapp:+14155238886"
PROFILE_NAME = "Ada Okafor"

_ACCOUNT = "AC00000000000000000000000000000007"
_MEDIA_TYPES = {
    "IMAGE": "image/jpeg",
    "VIDEO": "video/mp4",
    "VEDIO": "video/mp4",
    "AUDIO": "audio/ogg",
    "DOCUMENT": "application/pdf",
    "STICKER": "image/webp",
    "CONTACTS": "text/vcard",
}
_BODIES = {"TEXT": "Hello from mo", "DOCUMENT": "invoice-2291.pdf", "BUTTON": "Confirm", "INTERACTIVE": "Confirm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What the person says about the message; None is what is usual for its type."""

    message_type: str = "text"
    sender: str = SENDER
    receiver: str = RECEIVER
    body: str | None = None
    profile_name: str = PROFILE_NAME
    media_urls: Sequence[str] = ()
    media_content_type: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    address: str | None = None
    label: str | None = None
    button_text: str | None = None
    button_payload: str | None = None
    reply_to: str | None = None
    parameters: Sequence[tuple[str, str]] = ()
    without: Sequence[str] = ()


def new_sid(message_type: str, random_hex: str) -> str:
    """Return a MessageSid: MM with media, SM without, and 32 hexadecimal digits."""
    return f"{'MM' if message_type.upper() in _MEDIA_TYPES else 'SM'}{random_hex}"


def build_form(draft: Draft, message_sid: str) -> Form:
    """Return the parameters in Twilio's order.

    `parameters` replace those of the same name, or are added; `without` takes
    away. That is how a message is made that breaks a rule.
    """
    form = [*_envelope(draft, message_sid), *_media(draft, message_sid), *_place(draft), *_tap(draft)]
    if draft.reply_to is not None:
        form += [("OriginalRepliedMessageSid", draft.reply_to), ("OriginalRepliedMessageSender", draft.receiver)]
    replaced = {name for name, _ in draft.parameters} | set(draft.without)
    return [pair for pair in form if pair[0] not in replaced] + list(draft.parameters)


def whatsapp_address(text: str) -> str:
    """Return `whatsapp:+…` for a bare number, anything else as it is."""
    return f"whatsapp:{text}" if text.startswith("+") else text


def _envelope(draft: Draft, message_sid: str) -> Form:
    kind = draft.message_type.upper()
    wa_id = draft.sender.removeprefix("whatsapp:+")
    has_number = wa_id != draft.sender
    context = {"ProfileName": draft.profile_name} | ({"WaId": wa_id} if has_number else {})
    metadata = {"type": "whatsapp", "data": {"context": context}}
    return [
        ("SmsMessageSid", message_sid),
        ("NumMedia", str(len(_media_urls(draft, message_sid)))),
        ("ProfileName", draft.profile_name),
        ("MessageType", draft.message_type),
        ("SmsSid", message_sid),
        # A person without a visible number has a user id instead.
        ("WaId", wa_id) if has_number else ("ExternalUserId", draft.sender),
        ("SmsStatus", "received"),
        ("Body", _BODIES.get(kind, "") if draft.body is None else draft.body),
        ("To", draft.receiver),
        ("NumSegments", "1"),
        ("ReferralNumMedia", "0"),
        ("MessageSid", message_sid),
        ("AccountSid", _ACCOUNT),
        ("ChannelMetadata", json.dumps(metadata, separators=(",", ":"))),
        ("From", draft.sender),
        ("ApiVersion", "2010-04-01"),
    ]


def _media_urls(draft: Draft, message_sid: str) -> Sequence[str]:
    if draft.media_urls or draft.message_type.upper() not in _MEDIA_TYPES:
        return draft.media_urls
    media = f"Messages/{message_sid}/Media/ME{message_sid[2:]}"
    return [f"https://api.twilio.com/2010-04-01/Accounts/{_ACCOUNT}/{media}"]


def _media(draft: Draft, message_sid: str) -> Iterable[tuple[str, str]]:
    kind = draft.media_content_type or _MEDIA_TYPES.get(draft.message_type.upper(), "application/octet-stream")
    for number, url in enumerate(_media_urls(draft, message_sid)):
        yield f"MediaContentType{number}", kind
        yield f"MediaUrl{number}", url


def _place(draft: Draft) -> Iterable[tuple[str, str]]:
    is_location = draft.message_type.upper() == "LOCATION"
    values = {
        "Latitude": draft.latitude or ("52.303897857666016" if is_location else None),
        "Longitude": draft.longitude or ("4.750025749206543" if is_location else None),
        "Address": draft.address,
        "Label": draft.label,
    }
    return [(name, value) for name, value in values.items() if value is not None]


def _tap(draft: Draft) -> Iterable[tuple[str, str]]:
    is_tap = draft.message_type.upper() in {"BUTTON", "INTERACTIVE"}
    if not is_tap and draft.button_text is None and draft.button_payload is None:
        return []
    text = "Confirm" if draft.button_text is None else draft.button_text
    payload = text.lower() if draft.button_payload is None else draft.button_payload
    return [("ButtonText", text), ("ButtonPayload", payload)]
