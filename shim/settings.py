"""All that can be set, in a process and from one to another. What sets it: `flags`."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from shim.batch_limits import BatchLimits
from shim.connection_limits import ConnectionLimits
from shim.service_tls import ServiceTls
from shim.verification_limits import VerificationLimits


class Address(NamedTuple):
    """Where to listen; port 0 means any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificate is, with those that lead to its root, and its key: PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be set."""

    listen: Address
    admin_listen: Address
    service: str
    """A gRPC target."""
    state_dir: Path
    service_tls: ServiceTls | None = None
    """None: plain text, for a service on this machine."""
    certificate: CertificateFiles | None = None
    """Of the public port, which speaks TLS then."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose machines are believed about where a request came from."""
    public_urls: tuple[str, ...] = ()
    """What is entered at the service provider before the webhook's path: what signatures are computed over."""
    secrets_key: Path | None = None
    """The key file that opens the secrets of channels."""
    host_id: str = "shim"
    workers: int = 1
    reply: str = "empty"
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    batches: BatchLimits = field(default_factory=BatchLimits)
    verification: VerificationLimits = field(default_factory=VerificationLimits)
    max_journal_bytes: int = 10 * 2**30
    hand_over_only: bool = False
    log_level: str = "info"

    def to_json(self) -> str:
        """Write them for a worker, so that it has those of its supervisor whatever the variables say by then."""
        return json.dumps(dataclasses.asdict(self), default=str)


def from_json(text: str) -> Settings:
    """Read what `Settings.to_json` wrote."""
    values = json.loads(text)
    return Settings(
        **values
        | {
            "listen": Address(*values["listen"]),
            "admin_listen": Address(*values["admin_listen"]),
            "state_dir": Path(values["state_dir"]),
            "service_tls": _to_service_tls(values["service_tls"]),
            "certificate": _to_files(values["certificate"]),
            "trusted_proxies": tuple(values["trusted_proxies"]),
            "public_urls": tuple(values["public_urls"]),
            "secrets_key": _to_path(values["secrets_key"]),
            "connections": ConnectionLimits(**values["connections"]),
            "batches": BatchLimits(**values["batches"]),
            "verification": VerificationLimits(**values["verification"]),
        }
    )


def _to_path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _to_files(paths: dict[str, str] | None) -> CertificateFiles | None:
    return CertificateFiles(Path(paths["certificate"]), Path(paths["key"])) if paths else None


def _to_service_tls(values: dict[str, str | None] | None) -> ServiceTls | None:
    if values is None:
        return None
    cert, key = values["cert"], values["key"]
    return ServiceTls(
        Path(values["ca"] or ""), Path(cert) if cert else None, Path(key) if key else None, values["name"] or ""
    )
