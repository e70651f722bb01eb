"""What the service's log lines hold, and what they never do."""

from __future__ import annotations

import json
import logging
import sys
from types import TracebackType
from typing import Any

import pytest

from service.logs import JsonFormatter

SECRET = "the words of a customer"
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def line_of(name: str, message: str, *args: object, exc_info: ExcInfo | None = None, **facts: object) -> dict[str, Any]:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, exc_info)
    vars(record).update(facts)
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def caught() -> ExcInfo:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as lost:
            raise ValueError(f"can't read {SECRET}") from lost
    except ValueError:
        kind, raised, trace = sys.exc_info()
        assert kind is not None
        assert raised is not None
        return kind, raised, trace


def test_an_event_has_a_constant_name_and_facts_as_fields() -> None:
    line = line_of("service.feed", "claim_failed", destination="bot")
    assert (line["event"], line["level"], line["destination"]) == ("claim_failed", "error", "bot")
    assert line["time"].endswith("Z")


def test_an_exception_is_what_it_is_and_where_it_came_from_but_not_what_it_says() -> None:
    line = line_of("service.rpc", "call_failed", exc_info=caught())
    assert line["exception"] == "ValueError < KeyError"
    assert line["frames"][0].endswith(" caught")
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize(
    ("message", "args", "template"),
    [
        ("failed: %s", (SECRET,), "failed: %s"),
        (f"Exception in callback resolve(b'{SECRET}') at x.py:7", (), "Exception in callback resolve"),
        (f"Task exception was never retrieved\nfuture: {SECRET}", (), "Task exception was never retrieved"),
        (f"Executing <Handle {SECRET}> took 0.1 s", (), "Executing"),
        ("Unexpected [ValueError] raised by [/x/Y]", (), "Unexpected [ValueError] raised by [/x/Y]"),
    ],
)
def test_what_a_library_puts_into_its_message_is_not_logged(
    message: str, args: tuple[object, ...], template: str
) -> None:
    line = line_of("asyncio", message, *args)
    assert (line["event"], line["logger"], line["template"]) == ("library", "asyncio", template)
    assert SECRET not in json.dumps(line)
