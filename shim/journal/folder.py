"""The names in the journal's folder.

`<slot>.db` is a worker's file. `<slot>.torn-N.db` was found damaged; what can be read of it goes into
`<slot>.recovered-N.db`, and then it is called `<slot>.damaged-N.db` and kept for the operator.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"([0-9]{1,3})\.(?:(torn|recovered|damaged)-([0-9]+)\.)?db")


class JournalName(NamedTuple):
    """What a file's name says."""

    path: Path
    slot: int
    state: str
    """Empty for a worker's own file."""
    number: int


def list_names(folder: Path) -> Iterator[JournalName]:
    """Yield the journal files of a folder."""
    for path in sorted(folder.iterdir()):
        if match := _NAME.fullmatch(path.name):
            yield JournalName(path, int(match[1]), match[2] or "", int(match[3] or 0))


def next_name(folder: Path, slot: int, state: str) -> Path:
    """Return a name with a number that no other file of the slot has."""
    taken = {name.number for name in list_names(folder) if name.slot == slot}
    number = next(number for number in itertools.count(1) if number not in taken)
    return name_of(folder, slot, state, number)


def name_of(folder: Path, slot: int, state: str, number: int) -> Path:
    """Return the name of a file in that state."""
    return folder / f"{slot}.{state}-{number}.db"
