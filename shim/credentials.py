"""HTTP Basic authentication as RFC 7617 writes it, read strictly. Pure."""

import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import NamedTuple

_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class Credentials(NamedTuple):
    """What a caller says to be; `encoded` is both in one, unambiguously, as a user holds no colon."""

    user: str
    password: str
    encoded: bytes

    def __repr__(self) -> str:
        """Tell no secret."""
        return f"Credentials(user={self.user!r})"


def parse_basic(authorization: Sequence[str]) -> Credentials | None:
    """Read the values of a request's `Authorization` headers.

    None unless there is exactly one, of the scheme Basic, whose token is canonical, padded base64 of UTF-8 text with
    a colon and without control characters. The user ends at the first colon.
    """
    if len(authorization) != 1 or not (match := _BASIC.fullmatch(authorization[0])):
        return None
    try:
        encoded = a2b_base64(match[1])
        text = encoded.decode()
    except (Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    if not colon or _CONTROL_CHARACTER.search(text) or b2a_base64(encoded, newline=False).decode() != match[1]:
        return None
    return Credentials(user, password, encoded)
