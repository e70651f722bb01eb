"""Baseline (b): a bare FastAPI handler on uvicorn (httptools, uvloop) that reads the form and answers 204."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from tests.bench.baselines.uvicorn_server import serve


async def take(channel_config_id: str, request: Request) -> Response:
    """Read what an MO message must have."""
    form = await request.form()
    for name in ("From", "To", "MessageSid", "MessageType"):
        form[name]
    return Response(status_code=204)


def build_app() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/social/on/whatsapp/twilio/message/{channel_config_id}", take, methods=["POST"])
    return app


if __name__ == "__main__":
    serve(build_app())
