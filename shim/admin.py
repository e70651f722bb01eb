"""The private port: metrics and probes, without a sign-in."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from shim import sockets
from shim.health import Readiness, Reason, find_worst
from shim.settings import Address

_MAX_BODY_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class Told:
    """What the private port tells."""

    registry: CollectorRegistry
    find_reasons: Callable[[], Sequence[Reason]]
    refresh: Callable[[], Awaitable[None]]
    """Awaited before either is read."""


class _Handler(RequestHandler):
    """Says nothing about what it runs on."""

    def initialize(self, told: Told) -> None:
        self._told = told

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")


class _MetricsHandler(_Handler):
    async def get(self) -> None:
        await self._told.refresh()
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encode(self._told.registry))


class _NothingHandler(_Handler):
    def prepare(self) -> None:
        self.set_status(404)
        self.finish()


class _AliveHandler(_Handler):
    def get(self) -> None:
        self.finish({"status": "alive"})


class _ReadyHandler(_Handler):
    async def get(self) -> None:
        await self._told.refresh()
        reasons = self._told.find_reasons()
        readiness = find_worst(reasons)
        self.set_status(503 if readiness is Readiness.NOT_READY else 200)
        self.finish({"status": readiness.value, "reasons": [reason.to_json() for reason in reasons]})


def open_private_port(stack: AsyncExitStack, address: Address, told: Told) -> str:
    """Serve /metrics, /healthz and /readyz until the stack unwinds; return where.

    Raises `StartError` when the address can't be had.
    """
    bound = sockets.bind(address, flag="--admin-listen")
    server = HTTPServer(_application(told), max_body_size=_MAX_BODY_BYTES)
    server.add_sockets(bound)
    stack.push_async_callback(_stop, server)
    return sockets.name(bound)


def _application(told: Told) -> Application:
    return Application(
        [
            ("/metrics", _MetricsHandler, {"told": told}),
            ("/healthz", _AliveHandler, {"told": told}),
            ("/readyz", _ReadyHandler, {"told": told}),
        ],
        default_handler_class=_NothingHandler,
        default_handler_args={"told": told},
        log_function=lambda _: None,
    )


async def _stop(server: HTTPServer) -> None:
    server.stop()
    await server.close_all_connections()
