"""What messages tell people to type exists: the command, its flags, and as many arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from shim.cli.__main__ import cli

ROOT = Path(__file__).parent.parent.parent
TOLD = re.compile(r"(?:: |, |then |with |by |or )(mo [a-z-]+(?: [^;:.,\"')(]+)?)")
"""A command in a sentence, up to the end of its clause."""


def texts_of(path: Path) -> Iterator[str]:
    """Yield what stands in the strings of a file, with a capital letter for each value that is put in."""
    inner: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def find_told() -> Iterator[str]:
    for folder in ("service", "shim"):
        for path in sorted(ROOT.joinpath(folder).rglob("*.py")):
            for text in texts_of(path):
                yield from (match[1].strip() for match in TOLD.finditer(" ".join(text.split())))


COMMANDS = sorted(set(find_told()))


def test_messages_tell_of_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("told", COMMANDS)
def test_what_a_message_tells_to_type_is_a_command(told: str) -> None:
    command, words = find_command(told.split()[1:])
    parameters = {flag: parameter for parameter in command.params for flag in parameter.opts}
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    given = 0
    while words and not re.fullmatch("[a-z]+", words[0]):  # where English goes on
        word, *words = words
        if word.startswith("-"):
            assert word in parameters, f"there is no {word}"
            words = words[0 if getattr(parameters[word], "is_flag", False) else 1 :]
        else:
            given += 1

    assert given <= len(arguments) or any(argument.nargs == -1 for argument in arguments)


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return what these words name, and those that are left."""
    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no {name}"
        command, context = found, click.Context(found, parent=context)
    return command, words
