"""The private port: metrics and probes, without a sign-in."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from tornado.web import Application, RequestHandler

from shim.health import Health, Readiness


class _Handler(RequestHandler):
    """Says nothing about what it runs on."""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")


class _MetricsHandler(_Handler):
    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def get(self) -> None:
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encode(self._registry))


class _NothingHandler(_Handler):
    def prepare(self) -> None:
        self.set_status(404)
        self.finish()


class _AliveHandler(_Handler):
    def get(self) -> None:
        self.finish({"status": "alive"})


class _ReadyHandler(_Handler):
    def initialize(self, health: Health) -> None:
        self._health = health

    def get(self) -> None:
        readiness, reasons = self._health.report()
        self.set_status(503 if readiness is Readiness.NOT_READY else 200)
        self.finish({"status": readiness.value, "reasons": reasons})


def admin_application(registry: CollectorRegistry, health: Health) -> Application:
    """Serve /metrics, /healthz and /readyz."""
    return Application(
        [
            ("/metrics", _MetricsHandler, {"registry": registry}),
            ("/healthz", _AliveHandler),
            ("/readyz", _ReadyHandler, {"health": health}),
        ],
        default_handler_class=_NothingHandler,
        log_function=lambda _: None,
    )
