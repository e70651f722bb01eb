"""The files that a service with TLS goes by. Known apart from what reads them, which takes long to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SecurityFiles:
    """What a service with TLS is given. Without `client_ca`, callers aren't asked for a certificate."""

    cert: Path
    key: Path
    roles: Path
    client_ca: Path | None = None
