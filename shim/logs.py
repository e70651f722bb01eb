"""One JSON line an event on stderr: a constant message, and the facts as fields (`extra`)."""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType

_WHERE_VALUES_BEGIN = re.compile(r"[(<\n]")
"""Some libraries write what they handle into the template itself: `Exception in callback f(b'…')`."""

_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats our own records with their fields, and those of libraries by their template alone.

    What a library puts into its messages, and what an exception says, could be a customer's; where it happened is
    never. `facts` are in every event.
    """

    def __init__(self, **facts: object) -> None:
        super().__init__()
        self._facts = facts

    def format(self, record: logging.LogRecord) -> str:
        """Format one event."""
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "event": record.msg if record.name.startswith("shim") else "library",
        }
        if event["event"] == "library":
            event |= {"logger": record.name, "template": find_constant(str(record.msg))}
        event |= self._facts | {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            event["exception"] = record.exc_info[0].__qualname__
            event["frames"] = _frames(record.exc_info[2])
        return json.dumps(event, default=str)


def find_constant(message: str) -> str:
    """Return what a library's message says before it comes to values."""
    return _WHERE_VALUES_BEGIN.split(message, maxsplit=1)[0].strip()


def configure(level: str, **facts: object) -> None:
    """Log to stderr from now on, with these facts in every event. Once a process, before the event loop starts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(**facts))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("shim").setLevel(level.upper())


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
