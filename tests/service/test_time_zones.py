"""Time zones: known on every machine, and no file that is none."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import pytest

from service.routing import find_zone


@pytest.fixture
def no_zones_of_the_system() -> Iterator[None]:
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("no_zones_of_the_system")
def test_a_time_zone_is_known_where_the_system_has_none() -> None:
    assert find_zone("Atlantic/Reykjavik") is not None


@pytest.mark.parametrize(
    "name",
    [
        "Europe",
        "",
        "../UTC",
        "/etc/localtime",
        "localtime",
        "right/UTC",
        "posix/UTC",
        "Mars",
        "\0",
        "x" * 300,
        "tzdata.zi",
    ],
)
def test_what_is_no_time_zone_is_not_found(name: str) -> None:
    assert find_zone(name) is None
