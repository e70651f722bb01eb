"""The whole gateway over mutual TLS: the shim and `mo` as clients, and what they say when they aren't let in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.certificates import Authority, Issued
from tests.cli.commands import Result
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

    def mo(self, *arguments: str, client: Issued | None, ca: Path | None = None, stdin: str = "") -> Result:
        env = clean_environment()
        env |= {"MO_SERVICE": self.service.listen, "MO_SERVICE_CA": str(ca or self.authority.cert)}
        if client:
            env |= {"MO_CLIENT_CERT": str(client.cert), "MO_CLIENT_KEY": str(client.key)}
        return run_apart(env, *arguments, stdin=stdin)

    def create_channel(self) -> None:
        command = ("channel", "create", "C1", "--user", "twilio", "--password-stdin", "--destination", "bot")
        created = self.mo(*command, client=self.operator, stdin="a good long password")
        assert created.code == 0, created.stderr

    def wait_for_report(self) -> None:
        """Return when a shim has reported, whose links are both open then."""
        while not json.loads(self.mo("status", "--json", client=self.operator).stdout)["shims"]:
            pass

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


def run_apart(env: Mapping[str, str], *arguments: str, stdin: str = "") -> Result:
    """Run a command as a process: what it begins when it looks for a fault of TLS ends with it."""
    command = [sys.executable, "-m", "shim.cli", *arguments]
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MO_")}


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    authority = Authority(folder)
    issued = authority.issue_for_service()
    roles = folder / "roles.toml"
    roles.write_text(ROLES)
    with running_service(
        folder, tls_cert=issued.cert, tls_key=issued.key, tls_client_ca=authority.cert, roles=roles
    ) as service:
        shim = authority.issue("shim", uris=["spiffe://aicc/shim"])
        yield Site(folder, service, authority, authority.issue("operator"), shim)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for tests that change nothing of it."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


def post(shim: Process, sid: str) -> int:
    connection = HTTPConnection(shim.listen, timeout=60)
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
        assert site.mo("status", client=site.operator).code == 0


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
        site.wait_for_report()  # the supervisor opens its link when it serves already
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


def test_a_shim_that_can_not_use_its_files_does_not_start(shared_site: Site) -> None:
    for flag, file, code, fault in (
        ("client_key", shared_site.operator.key, 1, "--client-key"),
        ("service_ca", shared_site.operator.key, 1, "--service-ca"),
        ("client_cert", shared_site.folder / "none", 2, "does not exist"),
        ("service_ca", shared_site.folder / "none", 2, "does not exist"),
    ):
        command = shared_site.running_shim(**{flag: file}).command
        ended = subprocess.run(command, cwd=shared_site.folder, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == code, ended.stderr
        assert fault in ended.stderr
        assert "Traceback" not in ended.stderr


def test_mo_says_why_it_is_not_let_in(shared_site: Site) -> None:
    stranger = Authority(shared_site.folder, "stranger")
    expired = shared_site.authority.issue("operator", days=-1, file="expired")
    own, strange = shared_site.operator, stranger.issue("operator", file="strange")

    assert (
        "the service asks for a certificate; give --client-cert"
        in shared_site.mo("channel", "list", client=None).stderr
    )
    assert "refuses our certificate" in shared_site.mo("channel", "list", client=strange).stderr
    assert "refuses our certificate" in shared_site.mo("channel", "list", client=expired).stderr
    wrong_ca = shared_site.mo("channel", "list", client=own, ca=stranger.cert)
    assert wrong_ca.code == 1
    assert "the service's certificate is no good" in wrong_ca.stderr
    assert "--service-ca" in wrong_ca.stderr
    shim = shared_site.mo("channel", "list", client=shared_site.shim)
    assert (
        shim.stderr
        == 'mo: the role "read" is missing: grant it to "spiffe://aicc/shim" in the --roles file of mo-service\n'
    )
    wrong_name = shared_site.mo("--service-name", "other.test", "channel", "list", client=own)
    assert "the service's certificate is no good" in wrong_name.stderr
    assert shared_site.mo("--service-name", "mo.test", "channel", "list", client=own).code == 0


def test_mo_says_that_only_one_side_speaks_tls(shared_site: Site, tmp_path: Path) -> None:
    with running_service(tmp_path, store=f"sqlite:///{tmp_path / 'plain.db'}") as service:
        plain = replace(shared_site, service=service)
        assert "the service doesn't speak TLS" in plain.mo("channel", "list", client=shared_site.operator).stderr

    ended = run_apart(clean_environment(), "--service", shared_site.service.listen, "channel", "list")
    assert ended.code == 1
    assert "the service speaks TLS; give --service-ca" in ended.stderr


def test_mo_names_flags_that_do_not_go_together(shared_site: Site) -> None:
    ended = run_apart(clean_environment(), "--client-cert", str(shared_site.operator.cert), "channel", "list")

    assert ended.code == 2
    assert "--client-cert and --client-key need each other" in ended.stderr
    assert "--client-cert needs --service-ca" in ended.stderr
    listed = shared_site.mo("--service", "127.0.0.1:1,127.0.0.1:2", "channel", "list", client=shared_site.operator)
    assert "--service-ca needs --service-name" in listed.stderr
