"""The head of a request, as the parser found it. Pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Headers:
    """Names and values in their order, repeated ones too. Names are looked up in lower case."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get_list(self, name: bytes) -> Sequence[str]:
        """Return all values of a header, named in lower case, in their order."""
        values = self._values.get(name)
        return [_decode(value) for value in values] if values else ()

    def get_all(self) -> Sequence[tuple[str, str]]:
        """Return every header as it was sent, blanks around its value excepted."""
        return [(name.decode("latin-1"), _decode(value)) for name, value in self._pairs]


class RequestHead(NamedTuple):
    """What comes before the body."""

    method: bytes
    target: bytes
    version: str
    headers: Headers


def _decode(value: bytes) -> str:
    return value.decode("latin-1").strip(" \t")
