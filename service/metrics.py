"""What the service counts. Label sets are bounded: methods, codes, outcomes."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # when a counter began is of no use to anybody

RPC_SECONDS = Histogram(
    "mo_service_rpc_seconds",
    "How long unary calls took",
    ["method"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)
RPCS = Counter("mo_service_rpcs", "Calls that ended", ["method", "code"])
INGESTED = Counter("mo_service_ingested_messages", "Messages taken in, by what became of them", ["outcome"])
BATCH_MESSAGES = Histogram(
    "mo_service_batch_messages", "Messages in an ingested batch", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
CLASHES = Counter("mo_service_clashes", "Messages that came with the id of another one")
QUARANTINE_ERASED = Counter(
    "mo_service_quarantine_erased_requests", "Requests that came too late for quarantine: their sender was erased"
)
QUARANTINED = Counter("mo_service_quarantined_requests", "Requests that were put into quarantine")
DELIVERED = Counter("mo_service_deliveries", "Deliveries handed to consumers, redeliveries included")
SETTLED = Counter("mo_service_settlements", "Acks, nacks and extensions, by what they did", ["status"])
DEAD_LETTERS = Counter("mo_service_dead_letters", "Deliveries that were given up after too many attempts")
CONSUMERS = Gauge("mo_service_consumers", "Subscriptions that are open")
CERTIFICATE_EXPIRY = Gauge(
    "mo_service_certificate_expiry_timestamp_seconds", "When the service's certificate ends; 0 without TLS"
)
CONCERNS = Gauge("mo_service_concerns", "What should be mended although the service works: /readyz says degraded")
INSECURE_LISTEN = Gauge(
    "mo_service_insecure_listen", "1 while others than this machine can call without TLS, with every role"
)


@lru_cache(maxsize=500)
def _rpcs(method: str, code: str) -> Counter:
    return RPCS.labels(method, code)


def count_rpc(method: str, code: str) -> None:
    """Count a call that ended with a status code."""
    _rpcs(method, code).inc()
