"""The public port's flags: what they become, in this process and in a worker's."""

from pathlib import Path

import pytest

from shim.connection_limits import ConnectionLimits
from shim.settings import CertificateFiles, from_json
from tests.shim.test_process import read_settings, run_shim


def test_what_is_set_reaches_the_workers_as_it_was_set() -> None:
    settings = read_settings(
        *("--tls-cert", "chain.pem", "--tls-key", "key.pem", "--trusted-proxy", "10.0.0.0/8, fd00::/8,192.0.2.1"),
        *("--head-seconds", "3", "--body-seconds", "4", "--idle-seconds", "5", "--max-connections", "6"),
        *("--max-guesses-per-channel", "7", "--max-guesses-per-source", "8"),
    )
    assert settings.certificate == CertificateFiles(Path("chain.pem"), Path("key.pem"))
    assert settings.trusted_proxies == ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32")
    assert settings.connections == ConnectionLimits(max_connections=6, head_seconds=3, body_seconds=4, idle_seconds=5)
    assert (settings.verification.guesses_per_channel, settings.verification.guesses_per_source) == (7, 8)
    assert from_json(settings.to_json()) == settings


def test_without_flags_there_is_no_tls_and_nobody_is_believed() -> None:
    settings = read_settings()
    assert (settings.certificate, settings.trusted_proxies) == (None, ())
    assert from_json(settings.to_json()) == settings


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "somewhere", "10.0.0.0/8,", "10.0.0.0/33"])
def test_a_network_that_is_none_is_named_beside_every_other_fault(networks: str) -> None:
    result = run_shim("--trusted-proxy", networks, "--head-seconds", "0")
    assert result.returncode == 2
    assert "--trusted-proxy" in result.stderr
    assert "--head-seconds" in result.stderr
