"""gRPC's side of TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from service.certificates import Certificates


def build_credentials(find_current: Callable[[], Certificates]) -> grpc.ServerCredentials:
    """Return credentials that ask, for each new connection, for the certificates of that moment.

    Connections that are open go on with theirs. Whether callers need a certificate is decided once.
    """
    initial = find_current()
    return grpc.dynamic_ssl_server_credentials(
        _configure(initial),
        # Asked on gRPC's own thread.
        lambda: _configure(find_current()),
        require_client_authentication=initial.client_ca is not None,
    )


def _configure(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )
