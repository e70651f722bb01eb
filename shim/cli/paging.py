"""Collects lists that the service gives page by page."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")

LARGEST_PAGE = 1_000
"""How many items the service gives in one page at the most."""

FetchPage = Callable[[int, str], Awaitable[tuple[Iterable[_Item], str]]]
"""Takes how many items are wanted and the token of the page; returns them and the token of the next one."""


async def collect(
    fetch_page: FetchPage[_Item], limit: int | None = None, *, largest_page: int = LARGEST_PAGE
) -> list[_Item]:
    """Return up to `limit` items, all of them without one; a short or empty page need not be the last."""
    found: list[_Item] = []
    token = ""
    while True:
        size = largest_page if limit is None else min(limit - len(found), largest_page)
        items, token = await fetch_page(size, token)
        found += items
        if not token or (limit is not None and len(found) >= limit):
            return found[:limit]
