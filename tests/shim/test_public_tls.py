"""TLS on the public port: optional, new with its files, and no worse for callers."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shim.connection_limits import ConnectionLimits
from shim.errors import StartError
from shim.settings import CertificateFiles
from tests.certificates import Authority, Issued
from tests.shim.caller import FORM, Caller
from tests.shim.running import OpenShim, RunningShim
from tests.shim.test_process import run_shim


class TlsCaller(Caller):
    """A caller who trusts one authority, or none."""

    def __init__(self, listen: str, authority: Authority | None, **versions: ssl.TLSVersion) -> None:
        super().__init__(listen)
        self._context = ssl.create_default_context(cafile=authority.cert if authority else None)
        for name, version in versions.items():
            setattr(self._context, name, version)

    async def __aenter__(self) -> "TlsCaller":
        self.reader, self.writer = await asyncio.open_connection(self._host, self._port, ssl=self._context)
        return self

    @property
    def serial(self) -> str:
        """The serial number of the certificate that is shown."""
        return str(self.writer.get_extra_info("peercert")["serialNumber"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("shim", ips=["127.0.0.1"])


@asynccontextmanager
async def tls_shim(open_shim_with: OpenShim, issued: Issued) -> AsyncIterator[RunningShim]:
    async with open_shim_with(certificate=CertificateFiles(issued.cert, issued.key)) as shim:
        yield shim


async def test_messages_are_taken_over_tls_and_connections_are_kept(
    open_shim_with: OpenShim, authority: Authority, issued: Issued
) -> None:
    async with tls_shim(open_shim_with, issued) as shim, TlsCaller(shim.listen, authority) as caller:
        assert (await caller.post(authorization=None)).status == 401
        assert (await caller.post()).status == 204
        assert (await caller.post(FORM | {"MessageSid": "SM2", "Body": "x" * 200_000})).status == 204
    assert len(shim.service.messages) == 2


async def test_a_drain_hangs_up_on_idle_tls_connections_too(
    open_shim_with: OpenShim, authority: Authority, issued: Issued
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with tls_shim(open_shim_with, issued) as shim:
            caller = await stack.enter_async_context(TlsCaller(shim.listen, authority))
            assert (await caller.post()).status == 204
        assert await caller.is_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_may_be_1_2_or_newer(
    open_shim_with: OpenShim, authority: Authority, issued: Issued, version: ssl.TLSVersion
) -> None:
    async with (
        tls_shim(open_shim_with, issued) as shim,
        TlsCaller(shim.listen, authority, minimum_version=version, maximum_version=version) as caller,
    ):
        assert (await caller.post()).status == 204


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_is_refused(open_shim_with: OpenShim, authority: Authority, issued: Issued) -> None:
    old = ssl.TLSVersion.TLSv1_1
    async with tls_shim(open_shim_with, issued) as shim:
        caller = TlsCaller(shim.listen, authority, minimum_version=old, maximum_version=old)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await caller.__aenter__()


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    open_shim_with: OpenShim, authority: Authority, issued: Issued
) -> None:
    async with tls_shim(open_shim_with, issued) as shim, TlsCaller(shim.listen, authority) as before:
        assert (await before.post()).status == 204
        authority.issue("shim", ips=["127.0.0.1"], file="renewed").move_to(issued)
        await shim.events.wait_for("certificate_reloaded")
        async with TlsCaller(shim.listen, authority) as after:
            assert (await after.post()).status == 204
            assert after.serial != before.serial
        assert (await before.post()).status == 204


async def test_a_certificate_that_cannot_be_used_changes_nothing_and_is_told(
    open_shim_with: OpenShim, authority: Authority, issued: Issued
) -> None:
    async with tls_shim(open_shim_with, issued) as shim:
        issued.cert.write_text("no certificate")
        await shim.events.wait_for("certificate_refused")
        async with TlsCaller(shim.listen, authority) as caller:
            assert (await caller.post()).status == 204
        status, readiness = await shim.readiness()
        assert (status, readiness["status"]) == (200, "degraded")
        assert readiness["reasons"][0]["reason"] == "certificate_refused"
        authority.issue("shim", ips=["127.0.0.1"], file="renewed").move_to(issued)
        await shim.events.wait_for("certificate_reloaded")
        assert (await shim.readiness())[1]["reasons"] == []


async def test_who_speaks_no_tls_or_no_more_is_hung_up_on(
    open_shim_with: OpenShim, authority: Authority, issued: Issued
) -> None:
    files = CertificateFiles(issued.cert, issued.key)
    impatient = ConnectionLimits(head_seconds=1.0)
    async with open_shim_with(certificate=files, connections=impatient) as shim:
        host, _, port = shim.listen.rpartition(":")
        async with Caller(shim.listen) as plain, Caller(shim.listen) as silent, Caller(shim.listen) as begun:
            plain.send(b"GET / HTTP/1.1\r\n\r\n")
            begun.send(bytes.fromhex("1603010070"))
            with socket.create_connection((host, int(port))):
                pass
            async with TlsCaller(shim.listen, authority) as caller:
                assert (await caller.post()).status == 204
            for each in (plain, silent, begun):
                with contextlib.suppress(ConnectionError):
                    await each.reader.read()
    assert not [line for line in shim.events.lines if "library" in line or "lost" in line]


def test_one_of_the_two_files_is_a_fault_that_is_named(issued: Issued) -> None:
    result = run_shim("--tls-cert", str(issued.cert))
    assert (result.returncode, "--tls-key" in result.stderr) == (2, True)


@pytest.mark.parametrize("fault", ["missing", "no PEM", "another's key"])
def test_files_that_cannot_be_used_are_said_in_one_line(
    authority: Authority, issued: Issued, tmp_path: Path, fault: str
) -> None:
    if fault == "missing":
        issued.key.unlink()
    elif fault == "no PEM":
        issued.cert.write_text("no certificate")
    else:
        authority.issue("other").key.replace(issued.key)
    files = ["--tls-cert", str(issued.cert), "--tls-key", str(issued.key)]
    ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "shim")]
    result = run_shim(*files, *ports)
    line = result.stderr.splitlines()[-1]
    assert (result.returncode, str(issued.cert) in line, "Traceback" in result.stderr) == (1, True, False)


async def test_a_pass_phrase_is_not_asked_for(open_shim_with: OpenShim, issued: Issued) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    key = pem.load_pem_private_key(issued.key.read_bytes(), None)
    sealed = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret"))
    issued.key.write_bytes(sealed)
    with pytest.raises(StartError, match="without a pass phrase"):
        await open_shim_with(certificate=CertificateFiles(issued.cert, issued.key)).__aenter__()
