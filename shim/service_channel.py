"""A gRPC channel to the service, with TLS or without."""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from shim.service_tls import ServiceTls, read_material


def open_channel(
    target: str,
    tls: ServiceTls | None,
    *,
    options: Sequence[tuple[str, Any]],
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Connect to a gRPC target, in the background. Raises `errors.StartError` when a file can't be used."""
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    material = read_material(tls)
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    name = [("grpc.default_authority", tls.name)] if tls.name else []
    return grpc.aio.secure_channel(target, credentials, options=[*options, *name], interceptors=interceptors)
