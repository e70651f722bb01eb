"""Lists that come page by page."""

from __future__ import annotations

import pytest

from shim.cli.paging import collect


class Pages:
    """Gives 0 to 9 in pages of 3 at the most, an empty one in the middle; notes how many were asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def fetch(self, size: int, token: str) -> tuple[list[int], str]:
        self.sizes.append(size)
        if token == "gap":
            return [], "6"
        start = int(token or 0)
        end = min(start + min(size, 3), 10)
        return list(range(start, end)), "" if end == 10 else "gap" if end == 6 else str(end)


async def test_all_pages_are_collected_past_an_empty_one() -> None:
    assert await collect(Pages().fetch) == list(range(10))


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (3, [3]), (7, [5, 4, 1, 1]), (50, [5, 5, 5, 5, 5])])
async def test_no_more_is_asked_for_than_the_limit_leaves_or_a_page_holds(limit: int, sizes: list[int]) -> None:
    pages = Pages()
    assert await collect(pages.fetch, limit, largest_page=5) == list(range(min(limit, 10)))
    assert pages.sizes == sizes
