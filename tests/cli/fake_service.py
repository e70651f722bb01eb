"""A service that answers as a test wants, for what the real one can't be made to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from tests.cli.commands import Mo

Answer = Callable[..., Message]


@contextmanager
def fake_service(**answers: tuple[type[Message], Answer]) -> Iterator[Mo]:
    """`mo` before a service that serves and knows these calls, each named as `MessageArchive_EraseSender`."""
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    for name, (request, answer) in answers.items():
        service, _, call = name.partition("_")
        handler: grpc.RpcMethodHandler[Message, Message] = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        handlers = grpc.method_handlers_generic_handler(f"aicc.mo.v1.{service}", {call: handler})
        server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Mo(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
