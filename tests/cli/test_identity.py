"""Who the service's audit log is told that runs a command."""

from __future__ import annotations

import getpass
import socket

import grpc
import pytest
from aicc.mo.v1.message_archive_pb2 import ListAuditEntriesRequest, ListAuditEntriesResponse

from shim.cli.identity import this_user
from tests.cli.commands import CommandLine
from tests.cli.fake_service import fake_service


def told(*options: str) -> str:
    """What a service is told with a call of `mo` with `options`."""
    names: list[str] = []

    def listen(_request: ListAuditEntriesRequest, context: grpc.ServicerContext) -> ListAuditEntriesResponse:
        names.extend(str(value) for key, value in context.invocation_metadata() if key == "mo-operator")
        return ListAuditEntriesResponse()

    with fake_service(MessageArchive_ListAuditEntries=(ListAuditEntriesRequest, listen)) as mo:
        mo(*options, "audit", "list")
    (name,) = names
    return name


def test_each_call_says_which_user_of_which_machine_asks() -> None:
    assert told() == this_user()
    assert "@" in this_user()


def test_an_operator_may_be_named() -> None:
    assert told("--operator", "ada@desk-3") == "ada@desk-3"


def test_a_user_without_a_name_and_a_strange_machine_are_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr(socket, "gethostname", lambda: "büro\n" + "x" * 200)
    assert this_user() == f"unknown@b?ro?{'x' * 115}"


@pytest.mark.parametrize("name", ["", "  ", "Zoë", "two\nlines", "x" * 129])
def test_a_name_that_cannot_travel_is_refused(command_line: CommandLine, name: str) -> None:
    shown = command_line("--operator", name, "audit", "list", "--limit", "0")
    assert shown.code == 2
    assert "printable ASCII" in shown.stderr
    assert "--limit" in shown.stderr
