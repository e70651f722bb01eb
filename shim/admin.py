"""The private port: metrics and probes, without a sign-in."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from tornado.web import Application, RequestHandler

from shim.health import Health, Readiness


class _MetricsHandler(RequestHandler):
    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def get(self) -> None:
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encode(self._registry))


class _AliveHandler(RequestHandler):
    def get(self) -> None:
        self.finish({"status": "alive"})


class _ReadyHandler(RequestHandler):
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
        log_function=lambda _: None,
    )
