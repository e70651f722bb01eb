"""TLS of the service: who gets a connection, certificates that change while it runs, and where it listens without."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb

from tests.certificates import Authority
from tests.processes import Process, running_service
from tests.service.secured import ROLES, Secured, secured
from tests.service.stubs import connected
from tests.service.test_process import get, start


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Secured]:
    async with secured(tmp_path) as running:
        yield running


async def outcome(address: str, credentials: grpc.ChannelCredentials | None, name: str = "") -> grpc.StatusCode:
    """What comes of a call."""
    async with connected(address, credentials=credentials, name=name) as client:
        try:
            await client.directory.ListShims(directory_pb.ListShimsRequest(), timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


async def test_a_caller_with_a_certificate_of_ours_is_let_in(service: Secured) -> None:
    reader = service.authority.issue("reader")

    assert await outcome(service.address, service.authority.trust(reader)) is grpc.StatusCode.OK


async def test_a_caller_without_a_certificate_or_with_no_good_one_is_not(service: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("reader", file="strange-reader")
    expired = service.authority.issue("reader", days=-1)

    for client in (None, stranger, expired):
        assert await outcome(service.address, service.authority.trust(client)) is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_trusts_the_service_of_its_authority_and_name_alone(service: Secured, tmp_path: Path) -> None:
    reader = service.authority.issue("reader")
    elsewhere = Authority(tmp_path, "stranger").trust(reader)
    here = service.authority.trust(reader)

    assert await outcome(service.address, elsewhere) is grpc.StatusCode.UNAVAILABLE
    assert await outcome(service.address, here, name="mo.test") is grpc.StatusCode.OK
    assert await outcome(service.address, here, name="other.test") is grpc.StatusCode.UNAVAILABLE


async def test_plain_text_and_tls_do_not_meet(service: Secured, tmp_path: Path) -> None:
    assert await outcome(service.address, None) is grpc.StatusCode.UNAVAILABLE
    with running_service(tmp_path) as plain:
        assert await outcome(plain.listen, service.authority.trust()) is grpc.StatusCode.UNAVAILABLE


async def test_certificates_change_without_a_restart_and_open_streams_stay(service: Secured) -> None:
    old_reader = service.authority.trust(service.authority.issue("reader"))
    successor = Authority(service.folder, "successor")
    new_reader = successor.trust(successor.issue("reader", file="new-reader"))
    async with service.call_as("bot.example.com") as bot:
        stream = bot.feed.Subscribe()
        await stream.write(feed_pb.SubscribeRequest(destination="bot", ack_ids=["none"]))
        assert isinstance(await stream.read(), feed_pb.SubscribeResponse)

        successor.issue_for_service(file="renewed").move_to(service.service)
        successor.cert.replace(service.authority.cert)
        await service.events.wait_for("certificates_reloaded")

        assert await outcome(service.address, old_reader) is grpc.StatusCode.UNAVAILABLE
        assert await outcome(service.address, new_reader) is grpc.StatusCode.OK
        await stream.write(feed_pb.SubscribeRequest(ack_ids=["none"]))
        assert isinstance(await stream.read(), feed_pb.SubscribeResponse)


async def test_half_a_renewal_and_broken_files_change_nothing(service: Secured) -> None:
    reader = service.authority.trust(service.authority.issue("reader"))
    renewed = service.authority.issue_for_service(file="renewed")

    renewed.cert.replace(service.service.cert)  # and not its key
    record = await service.events.wait_for("certificates_refused")
    assert "is not the key of" in vars(record)["reason"]
    assert await outcome(service.address, reader) is grpc.StatusCode.OK

    renewed.key.replace(service.service.key)
    await service.events.wait_for("certificates_reloaded")
    assert await outcome(service.address, reader) is grpc.StatusCode.OK

    service.service.cert.unlink()
    await service.events.wait_for("certificates_refused", times=2)
    assert await outcome(service.address, reader) is grpc.StatusCode.OK


async def test_a_certificate_that_ends_soon_is_said_to(service: Secured) -> None:
    assert not service.events.find("certificate_expires_soon")
    service.authority.issue_for_service(days=13, file="soon").move_to(service.service)
    await service.events.wait_for("certificate_expires_soon")

    service.authority.issue_for_service(days=-1, file="old").move_to(service.service)

    await service.events.wait_for("certificate_expired")


def running_secured(folder: Path, listen: str = "127.0.0.1:0") -> Process:
    authority = Authority(folder)
    issued = authority.issue_for_service()
    roles = folder / "roles.toml"
    roles.write_text(ROLES)
    return running_service(
        folder, listen=listen, tls_cert=issued.cert, tls_key=issued.key, tls_client_ca=authority.cert, roles=roles
    )


def get_metrics(process: Process) -> str:
    connection = HTTPConnection(process.admin_listen, timeout=30)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def test_a_service_with_tls_may_listen_everywhere(tmp_path: Path) -> None:
    with running_secured(tmp_path, listen="0.0.0.0:0") as process:
        assert "mo_service_certificate_expiry_timestamp_seconds 0.0" not in get_metrics(process)
        assert "mo_service_insecure_listen 0.0" in get_metrics(process)
    assert '"every_caller_has_every_role"' not in process.stderr


def test_without_tls_it_says_that_every_caller_has_every_role(service_process: Process) -> None:
    event = service_process.wait_for_event("every_caller_has_every_role")

    assert event["listen"] == service_process.listen
    assert "mo_service_insecure_listen 0.0" in get_metrics(service_process)


def test_what_is_insecure_is_said_loudly(tmp_path: Path) -> None:
    with running_service(tmp_path, listen="0.0.0.0:0", insecure_listen=True) as process:
        event = process.wait_for_event("insecure_listen")
        assert event["level"] == "warning"
        assert "mo_service_insecure_listen 1.0" in get_metrics(process)
        status, body = get(process.admin_listen, "/readyz")
        assert (status, json.loads(body)["status"]) == (200, "degraded")
        assert b"--insecure-listen" in body


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "no-such-host.invalid:50051"])
def test_without_tls_other_machines_are_not_let_in(tmp_path: Path, listen: str) -> None:
    ended = start(tmp_path, "--listen", listen)

    assert ended.returncode == 2
    for way_out in ("--tls-cert", "--insecure-listen", "127.0.0.1"):
        assert way_out in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("listen", ["localhost:0", "[::1]:0", "127.0.0.2:0"])
def test_without_tls_this_machine_is(tmp_path: Path, listen: str) -> None:
    if listen.startswith("[") and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with running_service(tmp_path, listen=listen):
        pass


async def test_a_unix_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "mo.sock"
    with running_service(tmp_path, listen=f"unix:{path}") as process:
        assert process.listen == f"unix:{path}"
        assert path.stat().st_mode & 0o077 == 0
        assert await outcome(process.listen, None) is grpc.StatusCode.OK
        other = tmp_path / "other.db"
        ended = start(tmp_path, "--listen", f"unix:{path}", "--store", f"sqlite:///{other}")
        assert ended.returncode == 1
        assert "it is in use" in ended.stderr
        assert await outcome(process.listen, None) is grpc.StatusCode.OK
        process.kill()
    with running_service(tmp_path, listen=f"unix:{path}") as successor:  # what a dead one left is in nobody's way
        assert await outcome(successor.listen, None) is grpc.StatusCode.OK


def test_flags_that_do_not_go_together_are_named_at_once(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue_for_service()

    ended = start(tmp_path, "--listen", "unix:here", "--tls-cert", str(issued.cert), "--insecure-listen")

    assert ended.returncode == 2
    for fault in ("'unix:here' is no Unix socket", "--tls-cert and --tls-key", "needs --roles", "--insecure-listen is"):
        assert fault in ended.stderr


def test_roles_without_tls_are_refused(tmp_path: Path) -> None:
    roles = tmp_path / "roles.toml"
    roles.write_text(ROLES)

    ended = start(tmp_path, "--roles", str(roles), "--tls-client-ca", str(tmp_path / "none"))

    assert ended.returncode == 2
    assert "--roles needs --tls-cert" in ended.stderr
    assert "none' does not exist" in ended.stderr


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("service.key", "junk", "holds no private key in PEM form"),
        ("service.pem", "junk", "holds no certificates in PEM form"),
        ("authority.pem", "junk", "holds no certificates in PEM form"),
        ("roles.toml", '"a" = ["boss"]', '"boss" is no role'),
        ("roles.toml", "\udce4", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path: Path, file: str, content: str, fault: str) -> None:
    flags = running_secured(tmp_path).command[3:]
    (tmp_path / file).write_text(content, "utf-8", "surrogateescape")

    ended = start(tmp_path, *flags)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert str(tmp_path / file) in ended.stderr
    assert fault in ended.stderr


def test_whoever_lets_everybody_connect_says_what_they_may(tmp_path: Path) -> None:
    flags = running_secured(tmp_path).command[3:]
    place = flags.index("--tls-client-ca")
    del flags[place : place + 2]

    ended = start(tmp_path, *flags)

    assert ended.returncode == 1
    assert '"anonymous" = ["read"]' in ended.stderr
