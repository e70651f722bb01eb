"""`mo secrets`, `mo channel secret` and signatures, against a real service that has a key file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.cli.commands import CommandLine, Mo
from tests.processes import Process, running_service, running_shim

TOKEN = "0123456789abcdef0123456789abcdef"
SHARED_KEY = "a-shared-key-of-the-account"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def key_file(folder: Path) -> Path:
    path = folder / "secrets.key"
    Mo("127.0.0.1:1")("secrets", "init", str(path))
    return path


@pytest.fixture(scope="module")
def service(folder: Path, key_file: Path) -> Iterator[Process]:
    with running_service(folder, secrets_key=key_file) as process:
        yield process


def add_secret(mo: Mo, channel: str, secret: str = TOKEN, flag: str = "--auth-token-stdin") -> str:
    added = mo("channel", "secret", "add", channel, flag, "--json", stdin=f"{secret}\n")
    assert secret not in added.stdout + added.stderr
    return str(added.object["secret_id"])


def test_a_key_file_is_its_owners_alone_and_never_overwritten(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    made = command_line("secrets", "init", str(path))
    key = path.read_bytes()
    again = command_line("secrets", "init", str(path))

    assert (made.code, path.stat().st_mode & 0o777) == (0, 0o600)
    assert "--secrets-key" in made.stderr
    assert key.strip().decode() not in made.stdout + made.stderr
    assert Fernet(key.strip())
    assert (again.code, path.read_bytes()) == (1, key)
    assert "add-key" in again.stderr


def test_a_newer_key_comes_first_and_the_older_ones_stay(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    command_line("secrets", "init", str(path))
    (old,) = path.read_bytes().split()
    assert command_line("secrets", "add-key", str(path)).code == 0

    newest, second = path.read_bytes().split()

    assert second == old != newest
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secrets.key"]


@pytest.mark.parametrize("content", [b"", b"hello\n", b"x" * 44])
def test_what_is_no_key_file_gets_no_key(command_line: CommandLine, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)

    refused = command_line("secrets", "add-key", str(path))

    assert (refused.code, path.read_bytes()) == (1, content)
    assert "mo secrets init" in refused.stderr


def test_a_folder_that_is_not_there_is_said_in_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    refused = command_line("secrets", "init", str(tmp_path / "none" / "secrets.key"))
    assert refused.code == 1
    assert refused.stderr.count("\n") == 1


def test_secrets_are_added_listed_and_removed_and_never_shown(mo: Mo) -> None:
    mo.create_channel("listed")
    first = add_secret(mo, "listed")
    second = add_secret(mo, "listed", SHARED_KEY, "--shared-key-stdin")
    listed = mo("channel", "secret", "list", "listed", "--json").objects
    assert [(each["secret_id"], each["kind"]) for each in listed] == [
        (first, "SIGNATURE_SECRET_KIND_AUTH_TOKEN"),
        (second, "SIGNATURE_SECRET_KIND_SHARED_KEY"),
    ]
    mo("channel", "secret", "remove", "listed", first)
    header, row = mo("channel", "secret", "list", "listed").stdout.splitlines()
    assert header.split() == ["ID", "KIND", "ADDED"]
    assert row.split()[:2] == [second, "shared-key"]
    shown = mo("channel", "show", "listed").stdout
    assert TOKEN not in shown
    assert SHARED_KEY not in shown


def test_an_added_secret_hints_that_nothing_is_looked_at_yet(mo: Mo) -> None:
    mo.create_channel("hinted")
    added = mo("channel", "secret", "add", "hinted", "--auth-token-stdin", stdin=TOKEN)
    assert "mo channel update hinted --signature observe" in added.stderr


@pytest.mark.parametrize("flags", [(), ("--auth-token-stdin", "--shared-key-stdin")])
def test_a_secret_is_of_exactly_one_kind(mo: Mo, flags: tuple[str, ...]) -> None:
    refused = mo("channel", "secret", "add", "C1", *flags, code=2)
    assert "Give either --auth-token-stdin or --shared-key-stdin." in refused.stderr


def test_signatures_are_enforced_only_with_a_secret(mo: Mo) -> None:
    mo.create_channel("enforced")
    refused = mo("channel", "update", "enforced", "--signature", "enforce", code=1)
    assert "mo channel secret add" in refused.stderr
    add_secret(mo, "enforced")
    changed = mo("channel", "update", "enforced", "--signature", "enforce", "--json").object
    assert changed["signature_check"] == "SIGNATURE_CHECK_ENFORCE"


def test_a_rotation_tells_how_many_it_sealed_anew(mo: Mo, key_file: Path) -> None:
    mo.create_channel("rotated")
    add_secret(mo, "rotated")
    mo("secrets", "rotate")
    assert mo("secrets", "rotate", "--json").object["resealed"] == 0
    mo("secrets", "add-key", str(key_file))
    rotated = mo("secrets", "rotate", "--json").object
    assert rotated["resealed"] == rotated["secrets"] >= 1
    assert mo("audit", "list", "--action", "signature-secrets-reseal", "--json").objects


def test_a_rotation_that_leaves_something_ends_with_1_and_names_the_channel(mo: Mo, key_file: Path) -> None:
    mo.create_channel("foreign")
    add_secret(mo, "foreign")
    kept = key_file.read_bytes()
    key_file.write_bytes(Fernet.generate_key())
    try:
        refused = mo("secrets", "rotate", code=1)
    finally:
        key_file.write_bytes(kept)
    assert "foreign" in refused.stdout


def test_a_signed_message_goes_all_the_way_and_what_was_refused_is_shown(
    mo: Mo, service: Process, folder: Path, key_file: Path
) -> None:
    made = mo("channel", "create", "sent", "--user", "twilio", "--generate-password", "--json")
    password = made.object["generated_password"]
    add_secret(mo, "sent")
    add_secret(mo, "sent", SHARED_KEY, "--shared-key-stdin")
    mo("channel", "update", "sent", "--signature", "enforce")
    public_url = "https://mo.example.com"
    with running_shim(folder, service=service.listen, public_url=public_url, secrets_key=key_file) as shim:
        shim.wait_for_event("directory_received")
        url = f"http://{shim.listen}/social/on/whatsapp/twilio/message/sent"
        login = ("send", url, "--user", "twilio", "--password-stdin")
        signed = (*login, "--public-url", public_url)
        mo(*signed, "--auth-token-stdin", stdin=f"{password}\n{TOKEN}\n")
        mo(*signed, "--shared-key-stdin", stdin=f"{password}\n{SHARED_KEY}\n")
        assert "403" in mo(*signed, "--auth-token-stdin", stdin=f"{password}\n{TOKEN[::-1]}\n", code=1).stderr
        assert "403" in mo(*login, stdin=password, code=1).stderr
        assert TOKEN not in shim.stderr
    shown = dict(line.split("  ", 1) for line in mo("channel", "show", "sent").stdout.splitlines())
    assert shown["signature"].strip() == "enforce"
    assert shown["signed"].split(",")[0].strip() == "2"
    assert {name for name in shown if name.startswith("refused")} == {"refused: mismatch", "refused: missing"}
    assert len(mo("feed", "pull", "default", "--max", "2", "--wait", "10", "--ack", "--json").objects) == 2
    assert len(mo("quarantine", "list", "--channel", "sent", "--json").objects) == 2
    assert not [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


SEND_FAULTS = {
    "exclude each other": ("--auth-token-stdin", "--shared-key-stdin"),
    "is what is signed for": ("--public-url", "https://mo.example.com"),
    "give https://HOST": ("--auth-token-stdin", "--public-url", "mo.example.com"),
}


@pytest.mark.parametrize("told", SEND_FAULTS)
def test_what_does_not_go_together_is_said(mo: Mo, told: str) -> None:
    assert told in mo("send", "http://127.0.0.1:1/x", *SEND_FAULTS[told], code=2).stderr


def test_password_and_secret_are_two_lines(mo: Mo) -> None:
    options = ("--user", "u", "--password-stdin", "--auth-token-stdin")
    assert "two lines" in mo("send", "http://127.0.0.1:1/x", *options, stdin="only one\n", code=1).stderr
