"""`mo status` against a real service."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import Mo
from tests.processes import running_service


def test_it_tells_health_and_what_waits_in_each_destination(mo: Mo) -> None:
    mo.create_channel("waiting", "--destination", "waiting")
    mo.ingest("waiting", "SM1", "SM2")
    mo("feed", "pull", "waiting", "--max", "1")
    shown = mo("status", "--json").object
    assert shown["status"] == "SERVING"
    (found,) = [item for item in shown["destinations"] if item["name"] == "waiting"]
    assert (found["backlog"], found["leased"]) == ("2", "1")
    assert "serving" in mo("status").stdout


def test_it_fails_when_the_service_is_gone_or_does_not_answer(tmp_path: Path) -> None:
    with running_service(tmp_path) as process:
        mo = Mo(process.listen)
        process.freeze()
        assert process.listen in mo("status", "--timeout", "0.5", code=1).stderr
        process.kill()
        assert "can't be reached" in mo("status", code=1).stderr
