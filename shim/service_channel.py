"""A gRPC channel to the service, with TLS or without, to one address or balanced over several."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor

from shim.service_handshake import read_material
from shim.service_tls import ServiceTls

# Two more attempts, so that a call outlives the end of a replica; and few of many calls, so that an outage of all is
# not made worse.
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_RETRY_THROTTLING = {"maxTokens": 20, "tokenRatio": 0.1}


def open_channel(
    target: str,
    tls: ServiceTls | None,
    *,
    options: Sequence[tuple[str, Any]],
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Connect to a gRPC target, in the background. Raises `errors.StartError` when a file can't be used.

    Where the target can be several services, calls go to those in turn that say that they are well, and a call that
    one of them could not do goes to another one if it may be repeated.
    """
    if _is_balanced(target):
        options = [*options, ("grpc.service_config", _make_service_config())]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    material = read_material(tls)
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    name = [("grpc.default_authority", tls.name)] if tls.name else []
    return grpc.aio.secure_channel(target, credentials, options=[*options, *name], interceptors=interceptors)


def _is_balanced(target: str) -> bool:
    """Whether there may be another service to go to: else health and retries are the caller's own business."""
    return "," in target or target.startswith("dns:")


@cache
def _make_service_config() -> str:
    from google.protobuf.descriptor_pb2 import MethodOptions

    repeatable = [
        {"service": method.containing_service.full_name, "method": method.name}
        for method in _methods()
        if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    ]
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "retryThrottling": _RETRY_THROTTLING,
            "methodConfig": [{"name": repeatable, "retryPolicy": _RETRY_POLICY}],
        }
    )


def _methods() -> Iterable[MethodDescriptor]:
    # All of the contract, most of which is needed for nothing else here.
    from aicc.mo.v1 import channel_directory_pb2, message_archive_pb2, message_feed_pb2, message_ingest_pb2

    files = (channel_directory_pb2, message_archive_pb2, message_feed_pb2, message_ingest_pb2)
    services = chain.from_iterable(file.DESCRIPTOR.services_by_name.values() for file in files)
    return chain.from_iterable(service.methods for service in services)
