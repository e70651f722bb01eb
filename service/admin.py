"""The private port: /metrics, /healthz, /readyz. On threads, so that it answers while the loop is busy."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

log = logging.getLogger(__name__)

Reasons = Sequence[str]
Ask = Callable[[], Awaitable[Reasons]]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]

ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.1
"""How long `close` may wait for the thread to notice."""


class AdminServer:
    """Serves until `close`.

    `find_reasons` says, on the event loop, why the service isn't ready; `find_concerns` what should be mended
    although it is.
    """

    def __init__(self, host: str, port: int, find_reasons: Ask, find_concerns: Ask) -> None:
        self._loop = asyncio.get_running_loop()
        self._find_reasons = find_reasons
        self._find_concerns = find_concerns
        self._metrics = make_wsgi_app()
        self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="admin", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Stop serving. Answers that are under way are not waited for."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environ, start_response)
            return page
        if path == "/healthz":
            return _send(start_response, self._ask(_nothing), healthy="ok")
        if path == "/readyz":
            reasons = self._ask(self._find_reasons)
            concerns = () if reasons else self._ask(self._find_concerns)
            if concerns:
                return _send_json(start_response, "200 OK", {"status": "degraded", "reasons": [*concerns]})
            return _send(start_response, reasons, healthy="ready")
        return _send_json(start_response, "404 Not Found", {"paths": ["/metrics", "/healthz", "/readyz"]})

    def _ask(self, question: Ask) -> Reasons:
        async def ask() -> Reasons:
            return await question()

        answer = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        try:
            return answer.result(ANSWER_SECONDS)
        except FutureTimeoutError:
            answer.cancel()
            return [f"the event loop did not answer within {ANSWER_SECONDS:g} s"]


async def _nothing() -> Reasons:
    return ()


def _send(start_response: StartResponse, reasons: Reasons, *, healthy: str) -> Iterable[bytes]:
    if reasons:
        return _send_json(
            start_response, "503 Service Unavailable", {"status": f"not {healthy}", "reasons": [*reasons]}
        )
    return _send_json(start_response, "200 OK", {"status": healthy, "reasons": []})


def _send_json(start_response: StartResponse, status: str, body: Any) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps(body).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True


class _Handler(WSGIRequestHandler):
    timeout = 5  # a caller that sends nothing gives its thread back

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Log no line for every scrape."""
