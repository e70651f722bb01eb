"""Page sizes and page tokens, the same for every list."""

from __future__ import annotations

import base64
import binascii

from service.errors import InvalidRequest, Violation

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


def page_size(asked: int) -> int:
    """Return how many to give: 0 means 100, more than 1,000 means 1,000. Raises `InvalidRequest` below 0."""
    if asked < 0:
        raise InvalidRequest([Violation("page_size", "must not be negative")])
    return min(asked, LARGEST_PAGE) or DEFAULT_PAGE


def write_token(position: str) -> str:
    """Return an opaque token for where the next page starts."""
    return base64.urlsafe_b64encode(f"1:{position}".encode()).decode("ascii")


def read_token(token: str) -> str:
    """Return what `write_token` was given; "" for the first page. Raises `InvalidRequest`."""
    if not token:
        return ""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith("1:"):
        raise InvalidRequest([Violation("page_token", "is none of ours; start again without one")])
    return text[2:]


def write_position(position: int | None) -> str:
    """Return the token of a position in a list; "" for None, where there is no next page."""
    return "" if position is None else write_token(str(position))


def read_position(token: str) -> int | None:
    """Return what `write_position` was given; None for the first page. Raises `InvalidRequest`."""
    position = read_token(token)
    if not position:
        return None
    if not (position.isascii() and position.isdigit() and len(position) < 19):
        raise InvalidRequest([Violation("page_token", "is none of ours; start again without one")])
    return int(position)
