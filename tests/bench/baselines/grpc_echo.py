"""Baseline (d): a bare grpc.aio server that reads a message and sends it back, with our service's settings."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from aicc.mo.v1.message_pb2 import MoMessage

from service.rpc.server import OPTIONS
from tests.bench.baselines.running import tell_ready

SERVICE, METHOD = "bench.Echo", "Echo"


async def echo(request: MoMessage, _context: object) -> MoMessage:
    return request


async def serve() -> None:
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(echo, MoMessage.FromString, MoMessage.SerializeToString)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell_ready(port)
    await server.wait_for_termination()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve())
