"""Routes and destinations as the JSON text that every database keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

from service.models import Route, TimeWindow

DEFAULTS = {field.name: field.default for field in fields(Route)}


def dump_routes(routes: Sequence[Route]) -> str:
    """Return routes as JSON, without what is at its default."""
    return json.dumps(
        [{name: value for name, value in asdict(route).items() if value != DEFAULTS[name]} for route in routes],
        ensure_ascii=False,
    )


def load_routes(text: str) -> tuple[Route, ...]:
    """Read what `dump_routes` wrote."""
    return tuple(_load_route(item) for item in json.loads(text))


def _load_route(item: dict[str, Any]) -> Route:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}
    windows = tuple(TimeWindow(**window | {"days": tuple(window["days"])}) for window in item.get("time_windows", ()))
    return Route(**values | {"time_windows": windows})


@lru_cache(maxsize=1024)
def dump_names(names: tuple[str, ...]) -> str:
    """Return destination names as a JSON list. Remembered: there are few, and every message has some."""
    return json.dumps(names)


def load_names(text: str) -> tuple[str, ...]:
    """Read what `dump_names` wrote."""
    return tuple(json.loads(text))
