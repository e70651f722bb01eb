"""Secrets, words and numbers that are planted in a run of the gateway, and the search for them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

PASSWORD = "planted-password-of-the-channel"
OTHER_PASSWORD = "planted-password-that-was-rotated-in"
WRONG_PASSWORD = "planted-password-that-is-wrong"
AUTH_TOKEN = "0123456789planted0token0abcdef01"
SHARED_KEY = "planted/shared+key=0123456789ab"
SECRETS = (PASSWORD, OTHER_PASSWORD, WRONG_PASSWORD, AUTH_TOKEN, SHARED_KEY)

TEXT = "planted words & a cake recipe: zwölf Eier"
OTHER_TEXT = "planted words of a clash: neither here nor there"
NAME = "Planted Name of Somebody"
WORDS = (TEXT, OTHER_TEXT, NAME)

NUMBERS = ("447700900123", "447700900456", "14155238886")
SENDER, OTHER_SENDER, RECEIVER = (f"whatsapp:+{number}" for number in NUMBERS)


def spellings(text: str) -> set[str]:
    """A text as it might stand in a log, a form, a header or JSON."""
    escaped = {json.dumps(text)[1:-1], repr(text)[1:-1], repr(text.encode())[2:-1]}
    return {text, quote(text), quote_plus(text), quote(text, safe="")} | escaped | set(in_base64(text.encode()))


def in_base64(content: bytes) -> Iterator[str]:
    """Yield what is always there of it, whatever stands before and behind it."""
    for before in range(3):
        encoded = b64encode(b"-" * before + content).decode()
        yield encoded[(0, 2, 3)[before] : len(encoded) - 4]


def holds(content: bytes, text: str) -> bool:
    return any(spelling.encode() in content for spelling in spellings(text))


def find_in(shown: Mapping[str, str], planted: Iterable[str]) -> list[str]:
    """Name each place that says what was planted."""
    return [
        f"{where}: {text!r}"
        for where, said in shown.items()
        for text in planted
        if any(spelling in said for spelling in spellings(text))
    ]
