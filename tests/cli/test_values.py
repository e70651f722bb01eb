"""Durations, times and addresses as people write them; tables as they read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.texts import age_text, bytes_text, enum_text, plain_table, printable, seconds_text, time_text
from shim.cli.values import duration_seconds, point_in_time, service_fault

NOW = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("1.5h", 5_400)]
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "h", "-1s", "1w", "1 h", "1h30m", "99999999d", "1e3s", "\u0661s", "infs"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like|longest"):
        duration_seconds(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("2026-11-22T16:00:00Z", NOW - timedelta(hours=1)),
        ("2026-11-22T18:00:00+02:00", NOW - timedelta(hours=1)),
        ("2026-11-22T16:00", NOW - timedelta(hours=1)),
        ("2026-11-22", NOW - timedelta(hours=17)),
    ],
)
def test_a_time_is_iso_8601_in_utc_unless_it_says_otherwise_or_how_long_ago(text: str, time: datetime) -> None:
    assert point_in_time(text, NOW) == time


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00+10:00"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="write a time like"):
        point_in_time(text, NOW)


@pytest.mark.parametrize("text", ["h:1", "127.0.0.1:50051,mo-2:50051", "[::1]:50051", "dns:///mo:1", "unix:/run/mo"])
def test_a_service_is_an_address_or_several(text: str) -> None:
    assert service_fault(text) is None


def test_of_several_addresses_every_bad_one_is_named() -> None:
    fault = service_fault("good:1,nowhere,:5,bad:0,h:99999")
    assert fault is not None
    assert fault.startswith("'nowhere', ':5', 'bad:0', 'h:99999': ")


def test_a_plain_table_is_aligned_and_cuts_nothing() -> None:
    long = "x" * 300
    assert plain_table(["id", "state"], [["C1", "enabled"], [long, "-"]]) == [
        f"{'ID':300}  STATE",
        f"{'C1':300}  enabled",
        f"{long}  -",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Olá 👋🏽 שלום", "Olá 👋🏽 שלום"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\x00", "two\\nlines\\x00"),
        ("\u202eturned \u2028 \x9b", "\\u202eturned \\u2028 \\x9b"),
    ],
)
def test_a_cell_shows_what_a_terminal_would_act_on(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0.9, "0s"), (59, "59s"), (425, "7m 5s"), (3_600, "1h"), (100_000, "1d 3h")]
)
def test_an_age_has_two_units_at_the_most(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_times_are_shown_in_utc_to_the_millisecond_and_absent_ones_not_at_all() -> None:
    stamp = Timestamp(seconds=1_795_366_800, nanos=123_999_999)
    assert time_text(stamp) == "2026-11-22T17:00:00.123Z"
    assert age_text(stamp, NOW + timedelta(seconds=90)) == "1m 29s"
    assert (time_text(None), time_text(Timestamp()), age_text(None, NOW)) == ("", "", "")


def test_an_enum_reads_as_a_word() -> None:
    assert enum_text("HOLD_REASON_CHANNEL_PAUSED", "HOLD_REASON_") == "channel-paused"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_536, "1.5 KiB"),
        (3 << 20, "3.0 MiB"),
        (10 << 30, "10.0 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(count: int, text: str) -> None:
    assert bytes_text(count) == text
