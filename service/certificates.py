"""The service's certificate, its key, and who signs its callers' certificates: PEM files, checked when read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from service import metrics
from service.followed_files import BadFile, read_file
from service.security_files import SecurityFiles

log = logging.getLogger(__name__)

WARNED_BEFORE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What is in the files, PEM as it was read."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


def read_certificates(files: SecurityFiles) -> Certificates:
    """Read and check them: what is returned can be served with. One that is about to end is logged.

    Raises `followed_files.BadFile`.
    """
    chain = read_file(files.cert, "--tls-cert")
    key = read_file(files.key, "--tls-key")
    client_ca = read_file(files.client_ca, "--tls-client-ca") if files.client_ca else None
    certificate = _load_certificates(chain, files.cert, "--tls-cert")[0]
    if _public_key_of(certificate) != _load_key(key, files.key).public_key():
        raise BadFile(f"{files.key} (--tls-key) is not the key of {files.cert} (--tls-cert); give those of one issue")
    if client_ca is not None and files.client_ca:
        _load_certificates(client_ca, files.client_ca, "--tls-client-ca")
    _tell_end(certificate, files.cert)
    return Certificates(chain, key, client_ca)


def _load_certificates(pem: bytes, path: Path, flag: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise BadFile(f"{path} ({flag}) holds no certificates in PEM form") from None


def _public_key_of(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):  # so it can't be that of a key that is good
        return None


def _load_key(pem: bytes, path: Path) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise BadFile(f"{path} (--tls-key) is encrypted; give a key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadFile(f"{path} (--tls-key) holds no private key in PEM form") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadFile(f"{path} (--tls-key) is neither an RSA nor an elliptic-curve key, which TLS here needs")
    return key


def _tell_end(certificate: x509.Certificate, path: Path) -> None:
    ends_at = certificate.not_valid_after_utc
    metrics.CERTIFICATE_EXPIRY.set(ends_at.timestamp())
    now = datetime.now(UTC)
    if ends_at < now + WARNED_BEFORE:
        event = "certificate_expired" if ends_at < now else "certificate_expires_soon"
        log.warning(event, extra={"file": str(path), "expires": ends_at.isoformat(), "action": "renew it"})
