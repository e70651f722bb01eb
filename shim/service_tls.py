"""The files that TLS to the service takes, and which flags go together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ServiceTls:
    """What a connection to the service is secured with."""

    ca: Path
    """Who signs the service's certificate, PEM."""
    cert: Path | None = None
    """Our certificate and its chain, PEM."""
    key: Path | None = None
    name: str = ""
    """Whom the service's certificate must name. Empty: the host that is called."""

    @property
    def paths(self) -> list[Path]:
        """All files that there are."""
        return [path for path in (self.ca, self.cert, self.key) if path]


def to_service_tls(values: Mapping[str, Any]) -> ServiceTls | None:
    """Make it of the flags `service_ca`, `client_cert`, `client_key` and `service_name`; None without the first."""
    if not values.get("service_ca"):
        return None
    return ServiceTls(
        values["service_ca"], values.get("client_cert"), values.get("client_key"), values.get("service_name") or ""
    )


def find_conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Say which of these flags, and `service`, don't go together."""
    if bool(values.get("client_cert")) != bool(values.get("client_key")):
        yield "--client-cert and --client-key need each other; give both, or neither"
    if not values.get("service_ca"):
        for flag in ("client_cert", "client_key", "service_name"):
            if values.get(flag):
                yield f"--{flag.replace('_', '-')} needs --service-ca, which says that the service speaks TLS"
        return
    service = str(values.get("service") or "")
    if not values.get("service_name") and ("," in service or service.startswith("unix:")):
        yield "--service-ca needs --service-name for a list or a Unix socket: the name in the service's certificate"
