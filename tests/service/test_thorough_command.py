"""The service's commands name everything that is wrong with how they were called, each thing once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import pytest
from click.testing import CliRunner

from service.thorough_command import ThoroughCommand


def find_conflicts(given: Mapping[str, Any]) -> Iterator[str]:
    if given.get("number") == 3 and given.get("name"):
        yield "3 needs no name"


@pytest.fixture
def command() -> click.Command:
    return ThoroughCommand(
        "say",
        params=[
            click.Argument(["word"]),
            click.Option(["--number"], type=int, default=1),
            click.Option(["--number-of-all"], type=int, default=1),
            click.Option(["--name"], default=None),
            click.Option(["--loud"], is_flag=True, default=False),
        ],
        callback=lambda **given: click.echo(sorted(given.items())),
        context_settings={"auto_envvar_prefix": "SAY"},
        find_conflicts=find_conflicts,
    )


@pytest.mark.parametrize(
    ("args", "env", "faults"),
    [
        (["w", "--number", "x", "--frob", "--number-of-all", "y"], {}, ["--frob", "'--number'", "'--number-of-all'"]),
        (["w", "--number-of-all", "2", "--number"], {}, ["'--number' requires an argument"]),
        (["w", "--loud=yes", "-xyz"], {}, ["'--loud' does not take a value", "-x"]),
        (["--frob=secret"], {"SAY_NUMBER": "x"}, ["--frob", "'--number'", "Missing argument 'WORD'"]),
        (["w", "secret", "--number", "x"], {}, ["There are more arguments", "'--number'"]),
        (["w", "--number", "3", "--name", "n"], {}, ["3 needs no name"]),
    ],
)
def test_all_faults_are_named_at_once(
    command: click.Command, args: list[str], env: dict[str, str], faults: list[str]
) -> None:
    ended = CliRunner().invoke(command, args, env=env)

    assert ended.exit_code == 2
    told = ended.output.partition("Error: ")[2].splitlines()
    assert len(told) == len(faults)
    for fault in faults:
        assert sum(fault in line for line in told) == 1, told
    assert "secret" not in ended.output


def test_what_is_right_is_done(command: click.Command) -> None:
    ended = CliRunner().invoke(command, ["w", "--loud"], env={"SAY_NUMBER": "3"})

    wanted = [("loud", True), ("name", None), ("number", 3), ("number_of_all", 1), ("word", "w")]
    assert (ended.exit_code, ended.output) == (0, f"{wanted}\n")
