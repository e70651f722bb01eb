"""Baseline (a): a bare Tornado `RequestHandler` that reads the form and answers 204."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import tornado.httpserver
import tornado.web

from tests.bench.baselines.running import listen, tell_ready


class FormHandler(tornado.web.RequestHandler):
    """Reads what an MO message must have."""

    def post(self, channel_config_id: str) -> None:
        for name in ("From", "To", "MessageSid", "MessageType"):
            self.get_body_argument(name)
        self.set_status(204)


async def serve() -> None:
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    path = r"/social/on/whatsapp/twilio/message/([A-Za-z0-9._~-]{1,128})"
    socket = listen()
    socket.setblocking(False)
    server = tornado.httpserver.HTTPServer(tornado.web.Application([(path, FormHandler)]))
    server.add_socket(socket)
    tell_ready(socket.getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve())
