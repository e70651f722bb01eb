"""The affinity of a channel, as `mo channel` sets it, against a real service."""

from __future__ import annotations

from tests.cli.commands import Mo


def test_a_channel_has_affinity_until_it_is_taken_away(mo: Mo) -> None:
    mo.create_channel("staying", "--affinity", "30m")
    assert mo("channel", "show", "staying", "--json").object["affinity"] == "1800s"
    assert "affinity            30m" in mo("channel", "show", "staying").stdout
    mo("channel", "update", "staying", "--affinity", "2h")
    assert mo("channel", "show", "staying", "--json").object["affinity"] == "7200s"
    mo("channel", "update", "staying", "--no-affinity")
    assert "affinity            none" in mo("channel", "show", "staying").stdout


def test_an_affinity_of_nothing_is_none(mo: Mo) -> None:
    mo.create_channel("nothing", "--affinity", "5m")
    mo("channel", "update", "nothing", "--affinity", "0")
    assert "affinity            none" in mo("channel", "show", "nothing").stdout


def test_an_affinity_that_cannot_be_is_refused_with_the_reason(mo: Mo) -> None:
    mo.create_channel("refused")
    both = mo("channel", "update", "refused", "--affinity", "1.5s", "--no-affinity", code=2).stderr
    assert "--affinity is in whole seconds." in both
    assert "--affinity and --no-affinity exclude each other." in both
    assert "30 days" in mo("channel", "update", "refused", "--affinity", "31d", code=1).stderr
