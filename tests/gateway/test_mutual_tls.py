"""The whole gateway over mutual TLS: the shim and `mo` as clients, and what they say when they aren't let in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.certificates import Authority, Issued
from tests.gateway.gateway import FORM
from tests.processes import Process, running_service, running_shim

ROLES = '"spiffe://aicc/shim" = ["shim"]\n"operator" = ["operate", "consume:*"]\n'


@dataclass(frozen=True)
class Site:
    """A service that asks for certificates, and the files of its callers."""

    folder: Path
    service: Process
    authority: Authority
    operator: Issued
    shim: Issued

    @property
    def roles(self) -> Path:
        return self.folder / "roles.toml"

    def mo(self, *arguments: str, client: Issued | None, ca: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MO_")}
        env |= {"MO_SERVICE": self.service.listen, "MO_SERVICE_CA": str(ca or self.authority.cert)}
        if client:
            env |= {"MO_CLIENT_CERT": str(client.cert), "MO_CLIENT_KEY": str(client.key)}
        command = [sys.executable, "-m", "shim.cli", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)

    def create_channel(self) -> None:
        command = ("channel", "create", "C1", "--user", "twilio", "--password-stdin", "--destination", "bot")
        env = {name: value for name, value in os.environ.items() if not name.startswith("MO_")}
        tls = ("--service-ca", str(self.authority.cert), "--client-cert", str(self.operator.cert))
        service = ("--service", self.service.listen, *tls, "--client-key", str(self.operator.key))
        subprocess.run(
            [sys.executable, "-m", "shim.cli", *service, *command],
            env=env,
            input="a good long password",
            text=True,
            timeout=30,
            check=True,
            capture_output=True,
        )

    def running_shim(
        self, *, service_ca: Path | None = None, client_cert: Path | None = None, client_key: Path | None = None
    ) -> Process:
        return running_shim(
            self.folder,
            service=self.service.listen,
            service_ca=service_ca or self.authority.cert,
            client_cert=client_cert or self.shim.cert,
            client_key=client_key or self.shim.key,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    authority = Authority(tmp_path)
    issued = authority.issue_for_service()
    roles = tmp_path / "roles.toml"
    roles.write_text(ROLES)
    with running_service(
        tmp_path, tls_cert=issued.cert, tls_key=issued.key, tls_client_ca=authority.cert, roles=roles
    ) as service:
        shim = authority.issue("shim", uris=["spiffe://aicc/shim"])
        yield Site(tmp_path, service, authority, authority.issue("operator"), shim)


def post(shim: Process, sid: str) -> int:
    connection = HTTPConnection(shim.listen, timeout=15)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "Basic dHdpbGlvOmEgZ29vZCBsb25nIHBhc3N3b3Jk",
    }
    path = "/social/on/whatsapp/twilio/message/C1"
    connection.request("POST", path, urlencode({**FORM, "MessageSid": sid}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_message_travels_over_mutual_tls(site: Site) -> None:
    site.create_channel()
    with site.running_shim() as shim:
        shim.wait_for_event("directory_connected")
        assert post(shim, "SM1") == 204
        pulled = site.mo("feed", "pull", "bot", "--wait", "10", "--max", "1", "--ack", "--json", client=site.operator)
        assert '"SM1"' in pulled.stdout
        assert site.mo("status", client=site.operator).returncode == 0


def test_a_shim_whose_role_is_missing_says_which_and_loses_nothing(site: Site) -> None:
    site.create_channel()
    with site.running_shim() as shim:
        shim.wait_for_event("directory_connected")
        site.roles.write_text(ROLES.replace('["shim"]', '["read"]'))
        site.service.wait_for_event("roles_reloaded")
        assert post(shim, "SM1") == 204
        event = shim.wait_for_event("directory_lost")
        assert 'the role "shim" is missing: grant it to "spiffe://aicc/shim"' in event["reason"]
        assert '"ingest:C1"' in shim.wait_for_event("batch_failed")["reason"]

        site.roles.write_text(ROLES)
        site.service.wait_for_event("roles_reloaded", occurrence=2)
        pulled = site.mo("feed", "pull", "bot", "--wait", "20", "--max", "1", "--ack", "--json", client=site.operator)
        assert '"SM1"' in pulled.stdout
        shim.wait_for_event("journal_empty")


def test_a_shim_goes_over_to_a_renewed_certificate_without_a_word_lost(site: Site) -> None:
    site.create_channel()
    with site.running_shim() as shim:
        shim.wait_for_event("directory_connected")
        other = site.authority.issue("shim", uris=["spiffe://aicc/shim-2"], file="renewed")
        other.move_to(site.shim)
        shim.wait_for_event("service_certificates_reloaded", occurrence=2)  # the supervisor's link and the worker's
        assert post(shim, "SM1") == 204
        assert '"spiffe://aicc/shim-2"' in shim.wait_for_event("batch_failed")["reason"]

        site.roles.write_text(ROLES.replace("aicc/shim", "aicc/shim-2"))
        site.service.wait_for_event("roles_reloaded")
        pulled = site.mo("feed", "pull", "bot", "--wait", "20", "--max", "1", "--ack", "--json", client=site.operator)
        assert '"SM1"' in pulled.stdout


def test_a_shim_keeps_its_certificate_when_the_new_one_is_no_good(site: Site) -> None:
    site.create_channel()
    with site.running_shim() as shim:
        shim.wait_for_event("directory_connected")
        site.shim.cert.write_text("junk")
        assert str(site.shim.cert) in shim.wait_for_event("service_certificates_refused")["reason"]
        assert post(shim, "SM1") == 204
        pulled = site.mo("feed", "pull", "bot", "--wait", "10", "--max", "1", "--json", client=site.operator)
        assert '"SM1"' in pulled.stdout


def test_a_shim_that_can_not_use_its_files_does_not_start(site: Site) -> None:
    for flag, file, code, fault in (
        ("client_key", site.operator.key, 1, "--client-key"),
        ("service_ca", site.operator.key, 1, "--service-ca"),
        ("client_cert", site.folder / "none", 2, "does not exist"),
        ("service_ca", site.folder / "none", 2, "does not exist"),
    ):
        command = site.running_shim(**{flag: file}).command
        ended = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == code, ended.stderr
        assert fault in ended.stderr
        assert "Traceback" not in ended.stderr


def test_mo_says_why_it_is_not_let_in(site: Site) -> None:
    stranger = Authority(site.folder, "stranger")
    expired = site.authority.issue("operator", days=-1, file="expired")
    own, strange = site.operator, stranger.issue("operator", file="strange")

    assert "the service asks for a certificate; give --client-cert" in site.mo("channel", "list", client=None).stderr
    assert "refuses our certificate" in site.mo("channel", "list", client=strange).stderr
    assert "refuses our certificate" in site.mo("channel", "list", client=expired).stderr
    wrong_ca = site.mo("channel", "list", client=own, ca=stranger.cert)
    assert wrong_ca.returncode == 1
    assert "the service's certificate is no good" in wrong_ca.stderr
    assert "--service-ca" in wrong_ca.stderr
    shim = site.mo("channel", "list", client=site.shim)
    assert (
        shim.stderr
        == 'mo: the role "read" is missing: grant it to "spiffe://aicc/shim" in the --roles file of mo-service\n'
    )
    wrong_name = site.mo("--service-name", "other.test", "channel", "list", client=own)
    assert "the service's certificate is no good" in wrong_name.stderr
    assert site.mo("--service-name", "mo.test", "channel", "list", client=own).returncode == 0


def test_mo_says_that_only_one_side_speaks_tls(site: Site, tmp_path: Path) -> None:
    with running_service(tmp_path, store=f"sqlite:///{tmp_path / 'plain.db'}") as service:
        plain = replace(site, service=service)
        assert "the service doesn't speak TLS" in plain.mo("channel", "list", client=site.operator).stderr

    env = {name: value for name, value in os.environ.items() if not name.startswith("MO_")}
    command = [sys.executable, "-m", "shim.cli", "--service", site.service.listen, "channel", "list"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "the service speaks TLS; give --service-ca" in ended.stderr


def test_mo_names_flags_that_do_not_go_together(site: Site) -> None:
    command = [sys.executable, "-m", "shim.cli", "--client-cert", str(site.operator.cert), "channel", "list"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert "--client-cert and --client-key need each other" in ended.stderr
    assert "--client-cert needs --service-ca" in ended.stderr
    listed = site.mo("--service", "127.0.0.1:1,127.0.0.1:2", "channel", "list", client=site.operator)
    assert "--service-ca needs --service-name" in listed.stderr
