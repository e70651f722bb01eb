"""Roles: what a roles file may say, what a role lets its owner do, and that every call asks for one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aicc.mo.v1 import channel_directory_pb2, message_archive_pb2, message_feed_pb2, message_ingest_pb2

from service.access import ROLES, BadRoles, Need, Role, parse_roles, role_of

PROTOS = Path(__file__).parents[2] / "protos" / "aicc" / "mo" / "v1"
FILES = (message_ingest_pb2, channel_directory_pb2, message_feed_pb2, message_archive_pb2)
CALLS = [
    (service.full_name, method.name)
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def may(roles: str, *needs: Need) -> bool:
    """Whether somebody with these roles may do all that."""
    return parse_roles(f'"bot" = {roles}').find_missing("bot", needs) is None


@pytest.mark.parametrize(
    ("roles", "need"),
    [
        ('["read"]', Need(Role.READ)),
        ('["operate"]', Need(Role.OPERATE)),
        ('["operate"]', Need(Role.READ)),
        ('["operate"]', Need(Role.ASSIGN)),
        ('["shim"]', Need(Role.SHIM)),
        ('["shim"]', Need(Role.INGEST, "C1")),
        ('["shim"]', Need(Role.INGEST, "what is no\nchannel")),
        ('["ingest:*"]', Need(Role.INGEST, "C1")),
        ('["ingest:C1"]', Need(Role.INGEST, "C1")),
        ('["ingest:C1-*"]', Need(Role.INGEST, "C1-")),
        ('["ingest:C1-*"]', Need(Role.INGEST, "C1-de")),
        ('["ingest:*-de"]', Need(Role.INGEST, "C1-de")),
        ('["ingest:C*-*e"]', Need(Role.INGEST, "C1-de")),
        ('["consume:bot", "consume:agents"]', Need(Role.CONSUME, "agents")),
        ('["consume:bot~.-_"]', Need(Role.CONSUME, "bot~.-_")),
        ('["read", "assign"]', Need(Role.ASSIGN)),
    ],
)
def test_a_role_lets_its_owner_do_what_it_names(roles: str, need: Need) -> None:
    assert may(roles, need)


@pytest.mark.parametrize(
    ("roles", "need"),
    [
        ("[]", Need(Role.READ)),
        ('["read"]', Need(Role.OPERATE)),
        ('["read"]', Need(Role.ASSIGN)),
        ('["operate"]', Need(Role.SHIM)),
        ('["operate"]', Need(Role.INGEST, "C1")),
        ('["operate"]', Need(Role.CONSUME, "bot")),
        ('["shim"]', Need(Role.READ)),
        ('["shim"]', Need(Role.CONSUME, "bot")),
        ('["ingest:*"]', Need(Role.SHIM)),
        ('["ingest:*"]', Need(Role.CONSUME, "bot")),
        ('["ingest:C1"]', Need(Role.INGEST, "C10")),
        ('["ingest:C1"]', Need(Role.INGEST, "XC1")),
        ('["ingest:C1"]', Need(Role.INGEST, "c1")),
        ('["ingest:C1"]', Need(Role.INGEST, "C1\n")),
        ('["ingest:C1"]', Need(Role.INGEST, "")),
        ('["ingest:C.1"]', Need(Role.INGEST, "Cx1")),
        ('["ingest:*-de"]', Need(Role.INGEST, "C1-de-at")),
        ('["consume:bot"]', Need(Role.CONSUME, "agents")),
    ],
)
def test_a_role_lets_its_owner_do_nothing_else(roles: str, need: Need) -> None:
    assert not may(roles, need)


def test_whoever_is_not_in_the_file_may_nothing() -> None:
    assert parse_roles('"bot" = ["read"]').find_missing("Bot", [Need(Role.READ)]) == Need(Role.READ)


def test_a_pattern_with_many_stars_takes_no_longer() -> None:
    pattern = "a*" * 60
    assert not may(f'["consume:{pattern}b"]', Need(Role.CONSUME, "a" * 100_000))


def test_all_that_is_wrong_with_a_roles_file_is_named_at_once() -> None:
    text = """
bot.example.com = ["read"]
"one" = "read"
"two" = ["reed", "consume", "read:x", "ingest:C?"]
"three" = [1]
"""
    with pytest.raises(BadRoles) as raised:
        parse_roles(text)

    for fault in ('"bot.…"', "one: must be a list", '"reed" is no role', '"consume" names no destination', "takes no"):
        assert fault in str(raised.value)
    assert '"ingest:C?" names no channel' in str(raised.value)
    assert "three: must be a list" in str(raised.value)


@pytest.mark.parametrize("text", ["", "# nothing", "no toml", '"a" = ["read"]\n"a" = ["read"]'])
def test_a_file_that_grants_nothing_or_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadRoles):
        parse_roles(text)


def test_a_missing_role_is_spelled_as_the_file_wants_it() -> None:
    assert str(Need(Role.CONSUME, "bot")) == "consume:bot"
    assert str(Need(Role.READ)) == "read"
    assert str(Need(Role.INGEST, "\x1b[31m")) == "ingest:<channel>"
    assert str(Need(Role.INGEST, "*")) == "ingest:<channel>"


def find_comments() -> dict[tuple[str, str], list[str]]:
    """The roles that the comment of each RPC names."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in PROTOS.glob("*.proto"):
        service, comment = "", ""
        for line in path.read_text("utf-8").splitlines():
            if match := re.match(r"service (\w+)", line):
                service = f"aicc.mo.v1.{match[1]}"
            if match := re.match(r"  rpc (\w+)\(", line):
                found[service, match[1]] = re.findall(r"Role: `(\w+)`\.", comment)
            comment = f"{comment} {line}" if line.startswith("  //") else ""
    return found


@pytest.mark.parametrize(("service", "method"), CALLS)
def test_every_rpc_names_its_role_in_its_comment_and_in_the_table(service: str, method: str) -> None:
    assert find_comments()[service, method] == [role_of(f"/{service}/{method}")]


def test_the_table_names_no_rpc_that_there_is_not() -> None:
    ours = {(service, method) for service, roles in ROLES.items() for method in roles if service.startswith("aicc.")}
    assert ours == set(CALLS)
