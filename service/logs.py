"""Logs: one JSON object a line on stderr, a constant event with its facts as fields.

No password, token, message text or whole number may be among the facts.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

WHERE_VALUES_BEGIN = re.compile(r"[(<\n]")
"""Some libraries write what they handle into the template itself: `Exception in callback f(b'…')`."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; what came as `extra` are its facts.

    Of what libraries log, only the template; of an exception, what it is and where it came from: what they say could
    be a customer's.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": str(record.msg),
        }
        if record.name.partition(".")[0] != "service":
            line |= {"event": "library", "logger": record.name, "template": template_of(record)}
        line |= {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = " < ".join(type(error).__qualname__ for error in _causes(record.exc_info[1]))
            frames = traceback.extract_tb(record.exc_info[2])
            line["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False, default=str)


def template_of(record: logging.LogRecord) -> str:
    """Return what is constant about a library's message."""
    return WHERE_VALUES_BEGIN.split(str(record.msg), maxsplit=1)[0].strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def configure_logs() -> None:
    """Send every log record to stderr as JSON. Once, before anything else starts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
