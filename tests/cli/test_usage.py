"""How `mo` takes its command line: every fault at once, and never a secret repeated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from shim.cli.__main__ import cli
from tests.cli.commands import CommandLine

SECRET = "correct-horse"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from commands(command, (*path, name))
            else:
                yield (*path, name)


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_explains_itself_with_an_example(command_line: CommandLine, path: tuple[str, ...]) -> None:
    shown = command_line(*path, "--help")
    assert shown.code == 0
    assert f"mo {' '.join(path)}" in shown.stdout.partition("Example:")[2]


def test_help_needs_neither_grpc_nor_a_table() -> None:
    code = (
        "import sys; from shim.cli.__main__ import run; code = run(['--help']); "
        "print(code, sorted({'grpc', 'google.protobuf', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "0 []"


def test_every_fault_of_a_command_line_is_named_at_once(command_line: CommandLine) -> None:
    shown = command_line("--bogus", "channel", "create", "--usr=x", "--timeout", "soon", "--pause", "--disable")
    assert shown.code == 2
    assert shown.stdout == ""
    for part in ("--bogus", "--usr", "'ID'", "'--user'", "'soon'", "--password-stdin or", "--pause and --disable"):
        assert part in shown.stderr


def test_an_unknown_command_is_named_together_with_an_unknown_flag(command_line: CommandLine) -> None:
    shown = command_line("--bogus", "chanel")
    assert shown.code == 2
    assert "--bogus" in shown.stderr
    assert "chanel" in shown.stderr


def test_bad_variables_are_named_all_at_once_by_their_names(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MO_SERVICE", "nowhere,also:0")
    monkeypatch.setenv("MO_TIMEOUT", "0")
    monkeypatch.setenv("MO_MESSAGE_LIST_LIMIT", "none")
    shown = command_line("message", "list")
    assert shown.code == 2
    for part in ("MO_SERVICE", "'nowhere', 'also:0'", "MO_TIMEOUT", "MO_MESSAGE_LIST_LIMIT"):
        assert part in shown.stderr


def test_a_password_on_the_command_line_is_refused_with_the_reason_and_not_repeated(command_line: CommandLine) -> None:
    for arguments in (["--password", SECRET], [f"--password={SECRET}"]):
        shown = command_line("channel", "create", "C1", "--user", "u", *arguments)
        assert shown.code == 2
        assert "could read it" in shown.stderr
        assert "--password-stdin" in shown.stderr
        assert SECRET not in shown.stderr


def test_an_argument_too_many_is_refused_and_not_repeated(command_line: CommandLine) -> None:
    shown = command_line("message", "show", "C1", "SM1", "+447700900123")
    assert shown.code == 2
    assert "more arguments" in shown.stderr
    assert "447700900123" not in shown.stderr


def test_a_command_line_that_is_not_utf_8_is_refused(command_line: CommandLine) -> None:
    shown = command_line("channel", "show", "C\udcff")
    assert shown.code == 2
    assert "UTF-8" in shown.stderr


def test_the_shared_options_may_stand_at_every_level_and_the_innermost_wins(command_line: CommandLine) -> None:
    shown = command_line("--service", "127.0.0.1:2", "channel", "--json", "list", "--service", "127.0.0.1:1")
    assert shown.code == 1
    assert "127.0.0.1:1 can't be reached" in shown.stderr


def test_a_flag_beats_the_variable_wherever_it_stands(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MO_SERVICE", "127.0.0.1:2")
    for arguments in (["--service", "127.0.0.1:1", "status"], ["status", "--service", "127.0.0.1:1"]):
        assert "127.0.0.1:1 can't be reached" in command_line(*arguments).stderr


@pytest.mark.parametrize("service", ["127.0.0.1:1", "127.0.0.1:1,localhost:1", "dns:///127.0.0.1:1"])
def test_an_unreachable_service_is_named_with_the_way_out(command_line: CommandLine, service: str) -> None:
    shown = command_line("--service", service, "channel", "list")
    assert (shown.code, shown.stdout) == (1, "")
    assert len(shown.stderr.splitlines()) == 1
    for part in (service, "mo-service", "--service", "MO_SERVICE"):
        assert part in shown.stderr


def test_a_list_with_an_unknown_host_names_it(command_line: CommandLine) -> None:
    shown = command_line("--service", "127.0.0.1:1,nowhere.invalid:2", "channel", "list")
    assert shown.code == 1
    assert "nowhere.invalid:2" in shown.stderr


def test_no_command_shows_the_list_of_them(command_line: CommandLine) -> None:
    shown = command_line()
    assert (shown.code, shown.stdout) == (2, "")
    assert "Commands:" in shown.stderr


def test_a_fault_of_mo_itself_is_one_line_without_values() -> None:
    code = (
        "import sys, shim.cli.__main__ as mo\n"
        "def fail(arguments): raise ValueError('correct-horse')\n"
        "mo.run = fail\n"
        "mo.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "ValueError" in done.stderr
    assert SECRET not in done.stderr


def test_a_full_disk_is_one_line() -> None:
    command = f"exec {sys.executable} -m shim.cli --help >/dev/full"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output_is_refused_before_anything_is_done() -> None:
    command = f"exec {sys.executable} -m shim.cli feed pull default --ack >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr
