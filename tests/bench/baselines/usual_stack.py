"""Baseline (c): the usual stack. FastAPI, Basic auth, SQLAlchemy on asyncpg, one INSERT and one commit a message.

A unique constraint settles duplicates. It knows no channels, hashes no password, routes nothing and keeps no order:
that is its advantage.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from sqlalchemy import JSON, BigInteger, Column, Identity, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tests.bench.baselines.uvicorn_server import serve

USER, PASSWORD = "bench", "a password that nobody guesses"
POOL = 20

METADATA = MetaData()
MESSAGES = Table(
    "message",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("channel_config_id", Text, nullable=False),
    Column("message_sid", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    UniqueConstraint("channel_config_id", "message_sid"),
)


async def check_caller(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic(realm="aicc-mo"))]) -> None:
    """Refuse who isn't known."""
    is_user = secrets.compare_digest(credentials.username.encode(), USER.encode())
    is_password = secrets.compare_digest(credentials.password.encode(), PASSWORD.encode())
    if not (is_user and is_password):
        raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="aicc-mo"'})


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


async def take(
    channel_config_id: str, request: Request, session: Annotated[AsyncSession, Depends(open_session)]
) -> Response:
    """Store a message unless it is stored already."""
    form = await request.form()
    values: dict[str, Any] = {
        "channel_config_id": channel_config_id,
        "message_sid": form["MessageSid"],
        "sender": form["From"],
        "receiver": form["To"],
        "message_type": form["MessageType"],
        "parameters": dict(form),
    }
    await session.execute(insert(MESSAGES).values(**values).on_conflict_do_nothing())
    await session.commit()
    return Response(status_code=204)


def build_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    app.state.sessions = async_sessionmaker(engine)
    path = "/social/on/whatsapp/twilio/message/{channel_config_id}"
    app.add_api_route(path, take, methods=["POST"], dependencies=[Depends(check_caller)])
    return app


async def make_tables(dsn: str) -> None:
    engine = create_async_engine(dsn)
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    await engine.dispose()


def main(arguments: Sequence[str]) -> None:
    """Run with `--store DSN`."""
    dsn = arguments[arguments.index("--store") + 1].replace("postgresql://", "postgresql+asyncpg://")
    asyncio.run(make_tables(dsn))
    serve(build_app(create_async_engine(dsn, pool_size=POOL, max_overflow=0)))


if __name__ == "__main__":
    main(sys.argv[1:])
