"""Routes as a file: TOML for people, JSON for programs. Pure.

A TOML file has a `[[route]]` table for each route, in the order in which they
are tried: `id`, `destinations`, and what a message must have, either beside
them or in a sub-table `match`; `time_windows` is a list of tables. JSON is the same under "route", or a list, or
what `mo route list --json` prints.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aicc.mo.v1.channel_directory_pb2 import Route, RouteMatch

from shim.cli.route_windows import read_window, toml_window, window_faults

# The matchers, in the order in which they are written.
_KINDS: Mapping[str, type] = {
    "message_types": list,
    "keywords": list,
    "body_pattern": str,
    "sender_prefixes": list,
    "button_payloads": list,
    "is_reply": bool,
    "has_referral": bool,
    "time_windows": list,
    "percentage": float,
}
_WANTED = {list: "a list of strings", str: "a string", bool: "true or false", float: "a number", dict: "a table"}
_WINDOWS = "time_windows"


class RouteFileError(Exception):
    """The file holds no routes that can be read; `faults` names everything that is wrong with it."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__(*self.faults)


def read_routes(text: str, *, is_json: bool | None) -> list[Route]:
    """Return the routes of a file; `is_json` None means whichever it looks like.

    Raises `RouteFileError` with every unknown key and every value of the wrong
    type. Whether the values make sense is the service's to say.
    """
    if is_json is None:
        is_json = _looks_like_json(text)
    entries = _entries(_parse_json(text) if is_json else _parse_toml(text))
    faults = _all_faults(entries)
    if faults:
        raise RouteFileError(faults)
    return [_route(entry) for entry in entries]


def write_toml(routes: Sequence[Route]) -> str:
    """Return the file that `read_routes` turns into these routes again."""
    if not routes:
        return "route = []\n"
    return "\n".join("".join(f"{line}\n" for line in _toml_lines(route)) for route in routes)


def _looks_like_json(text: str) -> bool:
    """Tell `{…}` and `[{…}]` from TOML, which can begin with `[[route]]` but not with these."""
    start = text.lstrip()
    return start.startswith("{") or (start.startswith("[") and start[1:].lstrip().startswith(("{", "]")))


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RouteFileError([f"it is no TOML: {error}"]) from error


def _parse_json(text: str) -> Any:
    """Parse one document, or a line for each route."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise RouteFileError([f"it is no JSON: {whole}"]) from whole
    if not isinstance(document, dict | list):
        raise RouteFileError(["it must be a list of routes, or an object with one under `route`"])
    return document


def _entries(document: Any) -> list[Any]:
    """Return the tables of the routes. Raises `RouteFileError` when there is anything else, or nothing."""
    if isinstance(document, dict) and document.keys() & {"id", "route_id"}:
        document = {"route": [document]}
    if not isinstance(document, dict):
        return list(document)
    faults = [f"unknown key `{key}`: there are only [[route]] tables" for key in document if key != "route"]
    entries = document.get("route")
    if entries is None:
        faults.append("there is no [[route]] in it; to remove all routes, write: route = []")
    elif not isinstance(entries, list):
        faults.append("`route` must be a list: write [[route]] above each")
    elif faults:
        faults += _all_faults(entries)
    if faults or not isinstance(entries, list):
        raise RouteFileError(faults)
    return entries


def _all_faults(entries: Iterable[Any]) -> list[str]:
    return [fault for number, entry in enumerate(entries, 1) for fault in _entry_faults(number, entry)]


def _entry_faults(number: int, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"route {number}: it must be a table"
        return
    name = _id(entry)
    where = f"route {number} ({name!r})" if isinstance(name, str) else f"route {number}"
    for fault in _value_faults(entry):
        yield f"{where}: {fault}"


def _value_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    if _id(entry) is None:
        yield "`id` is missing"
    if {"id", "route_id"} <= entry.keys():
        yield "`id` and `route_id` are the same: leave one out"
    if "destinations" not in entry:
        yield "`destinations` is missing"
    kinds = {"id": str, "route_id": str, "destinations": list, "match": dict, **_KINDS}
    yield from _key_faults(entry, kinds, "")
    match = entry.get("match")
    if isinstance(match, dict):
        yield from _key_faults(match, _KINDS, "match.")
        yield from (f"`{key}` stands beside `match` and in it: leave one out" for key in match if key in entry)


def _key_faults(table: Mapping[str, Any], kinds: Mapping[str, type], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        kind = kinds.get(key)
        if kind is None:
            yield f"unknown key `{prefix}{key}`; there are {', '.join(kinds)}"
        elif key == _WINDOWS and isinstance(value, list):
            yield from (
                f"`{prefix}{key}[{index}]` {fault}" for index, item in enumerate(value) for fault in window_faults(item)
            )
        elif not _is_of(kind, value):
            yield f"`{prefix}{key}` must be {'a list of tables' if key == _WINDOWS else _WANTED[kind]}"


def _is_of(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind)


def _id(entry: Mapping[str, Any]) -> Any:
    return entry.get("id", entry.get("route_id"))


def _route(entry: Mapping[str, Any]) -> Route:
    matchers = {key: value for key, value in entry.items() if key in _KINDS} | dict(entry.get("match", {}))
    if _WINDOWS in matchers:
        matchers[_WINDOWS] = [read_window(window) for window in matchers[_WINDOWS]]
    match = RouteMatch(**matchers) if matchers else None
    return Route(route_id=_id(entry), match=match, destinations=entry["destinations"])


def _toml_lines(route: Route) -> Iterator[str]:
    yield "[[route]]"
    yield f"id = {_toml(route.route_id)}"
    yield f"destinations = {_toml(list(route.destinations))}"
    for key, kind in _KINDS.items():
        if kind is list:
            if values := list(getattr(route.match, key)):
                yield f"{key} = {_toml([toml_window(each) for each in values] if key == _WINDOWS else values)}"
        elif route.match.HasField(key):  # type: ignore[arg-type] # the stub lists literal names
            yield f"{key} = {_toml(getattr(route.match, key))}"


def _toml(value: Any) -> str:
    """Return a value as TOML. A JSON string is a TOML basic string but for DEL and for pairs of surrogates."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(entry)}' for key, entry in value.items())} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
