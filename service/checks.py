"""What is valid: names, keys, channels. Pure; every function names all faults at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from service.errors import InvalidRequest, Violation
from service.models import Channel, DestinationSettings

CHANNEL_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
NUMBER = re.compile(r"\+[0-9]{7,15}", re.ASCII)
PROVIDER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
SHORTEST_PASSWORD = 12
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def refuse(violations: Iterable[Violation]) -> None:
    """Raise `InvalidRequest` when there are any."""
    found = list(violations)
    if found:
        raise InvalidRequest(found)


def check_message_keys(channel_config_id: str, message_sid: str, sender: str, receiver: str) -> Sequence[Violation]:
    """Return what is wrong with the keys of a message (design 5.2)."""
    if _are_plain(channel_config_id, message_sid, sender, receiver):
        return ()
    violations = list(check_channel_id(channel_config_id))
    for field, value, most in (("message_sid", message_sid, 64), ("sender", sender, 256), ("receiver", receiver, 256)):
        violations += _check_text(field, value, most)
    return violations


def _are_plain(channel_config_id: str, message_sid: str, sender: str, receiver: str) -> bool:
    """Answer for nearly every message at once: all present, short enough and printable."""
    return (
        0 < len(message_sid) <= 64
        and 0 < len(sender) <= 256
        and 0 < len(receiver) <= 256
        and (message_sid + sender + receiver).isprintable()
        and CHANNEL_ID.fullmatch(channel_config_id) is not None
    )


def check_channel_id(value: str) -> Iterator[Violation]:
    if not CHANNEL_ID.fullmatch(value):
        yield Violation("channel_config_id", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ -")


def check_destination(value: str, field: str = "destination") -> Iterator[Violation]:
    yield from check_name(field, value)


def check_name(field: str, value: str) -> Iterator[Violation]:
    if not NAME.fullmatch(value):
        yield Violation(field, "must be 1 to 128 of A-Z a-z 0-9 . _ -")


def check_sender(value: str) -> Iterator[Violation]:
    yield from _check_text("sender", value, 256)


def check_channel(channel: Channel) -> Iterator[Violation]:
    """Find what is wrong with a channel, but for its routes and hashes."""
    yield from check_channel_id(channel.channel_config_id)
    if not PROVIDER.fullmatch(channel.provider):
        yield Violation("provider", "must be 1 to 64 of a-z 0-9 -, for example twilio")
    if channel.number and not NUMBER.fullmatch(channel.number):
        yield Violation("number", "must be + and 7 to 15 digits, or empty")
    yield from _check_text("webhook_user", channel.credentials.webhook_user, 128)
    if ":" in channel.credentials.webhook_user:
        yield Violation("webhook_user", "must not hold a colon: Basic credentials end the user with one")
    if channel.destination is not None:
        yield from check_destination(channel.destination)


def check_settings(settings: DestinationSettings) -> Iterator[Violation]:
    """Find what is wrong with a destination's settings."""
    for field, value, least, most in (
        ("ack_deadline", settings.ack_deadline_seconds, 1, 600),
        ("max_attempts", settings.max_attempts, 1, 100),
        ("min_backoff", settings.min_backoff_seconds, 0, 600),
        ("max_backoff", settings.max_backoff_seconds, 0, 600),
        ("backoff_jitter", settings.backoff_jitter, 0, 1),
        ("retention", settings.retention_seconds, 3600, 10 * 366 * 86_400),
    ):
        if not least <= value <= most:
            yield Violation(f"settings.{field}", f"must be {least:,} to {most:,}")
    if settings.min_backoff_seconds > settings.max_backoff_seconds:
        yield Violation("settings.min_backoff", "must not be more than max_backoff")


def check_password(password: str, channel: Channel) -> Iterator[Violation]:
    """Find what is wrong with a password that somebody chose for a channel."""
    yield from _check_text("password", password, 256)
    if len(password) < SHORTEST_PASSWORD:
        yield Violation(
            "password",
            f"must have at least {SHORTEST_PASSWORD} characters: a shorter one can be guessed; leave it empty, and one "
            "is generated",
        )
    for name, known in (("the webhook user", channel.credentials.webhook_user), ("the id", channel.channel_config_id)):
        if password.casefold() == known.casefold():
            yield Violation("password", f"must not be {name} of the channel: whoever knows that would guess it")


def _check_text(field: str, value: str, most: int) -> Iterator[Violation]:
    if not value:
        yield Violation(field, "is required")
    if len(value) > most:
        yield Violation(field, f"must have at most {most} characters")
    if CONTROL.search(value):
        yield Violation(field, "must not hold control characters")
