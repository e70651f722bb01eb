"""Certificates, made when a test needs them.

authority = Authority(tmp_path, "ours")
server = authority.issue("service", dns=["localhost"], ips=["127.0.0.1"])
running_service(tmp_path, tls_cert=server.cert, tls_key=server.key, tls_client_ca=authority.cert, …)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in files."""

    cert: Path
    key: Path

    def move_to(self, other: Issued) -> None:
        """Take the place of another one, one file after the other as a renewal does."""
        self.cert.replace(other.cert)
        self.key.replace(other.key)


class Authority:
    """Signs certificates; `cert` is its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"{name} of the tests")
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(
            _build(self._name, self._name, self._key.public_key(), days=60)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        days: float = 30,
        file: str = "",
    ) -> Issued:
        """Sign a certificate for a common name and alternative ones; with negative `days` it is expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _build(_named(name), self._name, key.public_key(), days=days)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(each) for each in dns]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        issued = Issued(self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key")
        issued.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        issued.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return issued

    def issue_for_service(self, *, days: float = 30, file: str = "service") -> Issued:
        """Sign what a service on this machine shows."""
        return self.issue("service", dns=["localhost", "mo.test"], ips=["127.0.0.1"], days=days, file=file)

    def trust(self, client: Issued | None = None) -> grpc.ChannelCredentials:
        """Trust whom this authority signs, and show a certificate if there is one."""
        return grpc.ssl_channel_credentials(
            self.cert.read_bytes(),
            client.key.read_bytes() if client else None,
            client.cert.read_bytes() if client else None,
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _build(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=days))
    )
