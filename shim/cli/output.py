"""What a command prints: JSON lines for programs, tables for people.

On a terminal a table is set by rich, which folds what is too wide; anywhere
else it is plain aligned text with nothing cut or folded, so that ids survive a
pipe.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from shim.cli.texts import plain_table, printable
from shim.cli.usage import settings

_Item = TypeVar("_Item", bound=Message)
Columns = Mapping[str, Callable[[_Item], str]]


def json_line(item: Message | Mapping[str, object]) -> str:
    """Return an object, or the proto's own JSON as of `json_object`, on one line.

    Plain ASCII: no character of a message can break the line or reach a terminal as a command.
    """
    return json.dumps(json_object(item) if isinstance(item, Message) else item)


def json_object(item: Message) -> dict[str, Any]:
    """Return the proto's own JSON, with the proto's names and with fields at their default too."""
    return MessageToDict(item, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def write_line(text: str) -> None:
    """Write one line of data, seen through to the reader."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_items(items: Sequence[_Item], columns: Columns[_Item]) -> None:
    """Write a list: one JSON object a line, or a table. Nothing for an empty one."""
    if settings().json:
        for item in items:
            write_line(json_line(item))
    elif items:
        _write_columns(items, columns)


def write_section(items: Sequence[_Item], columns: Columns[_Item]) -> None:
    """Write a table below what was written, after an empty line. Nothing for an empty one."""
    if items:
        write_line("")
        _write_columns(items, columns)


def write_item(item: Message | Mapping[str, object], fields: Mapping[str, str]) -> None:
    """Write one thing: its JSON, or a line for each of `fields`."""
    if settings().json:
        write_line(json_line(item))
    else:
        write_table([], [[name, value] for name, value in fields.items()])


def write_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows under their headers; without headers the first column names the second."""
    safe = [[printable(cell) or "-" for cell in row] for row in rows]
    if sys.stdout.isatty():
        _write_rich(headers, safe)
        return
    for line in plain_table(headers, safe):
        write_line(line)


def note(text: str) -> None:
    """Tell the person something that is not data."""
    click.echo(f"mo: {text}", err=True)


def _write_columns(items: Sequence[_Item], columns: Columns[_Item]) -> None:
    write_table(list(columns), [[text(item) for text in columns.values()] for item in items])


def _write_rich(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # Imported where there is a terminal: it takes longer than most commands.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(headers), header_style="bold", pad_edge=False)
    for header in headers or ("", ""):
        table.add_column(header, overflow="fold", style="" if headers or table.columns else "bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
