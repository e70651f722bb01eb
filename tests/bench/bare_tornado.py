"""The baseline: a bare Tornado `RequestHandler` that reads the form and answers 204."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys

import tornado.web


class FormHandler(tornado.web.RequestHandler):
    """Reads what an MO message must have."""

    def post(self, channel_config_id: str) -> None:
        for name in ("From", "To", "MessageSid", "MessageType"):
            self.get_body_argument(name)
        self.set_status(204)


async def serve() -> None:
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    path = r"/social/on/whatsapp/twilio/message/([A-Za-z0-9._~-]{1,128})"
    server = tornado.web.Application([(path, FormHandler)]).listen(0, "127.0.0.1")
    (socket,) = server._sockets.values()
    host, port = socket.getsockname()
    sys.stderr.write(json.dumps({"event": "listening", "listen": f"{host}:{port}", "admin_listen": ""}) + "\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve())
