"""`mo status`: whether the service serves, and what waits in each destination."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import grpc
import grpc.aio
from aicc.mo.v1.message_feed_pb2 import Destination, ListDestinationsRequest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from shim.cli.connection import Connection, run
from shim.cli.output import json_line, note, write_line, write_table
from shim.cli.texts import age_text, enum_text
from shim.cli.usage import command, settings


@command("status", example="mo status --json")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the service serves, and what waits in each destination.

    Exits with 1 when it doesn't serve.
    """
    health, destinations = run(_ask)
    if settings().json:
        write_line(json_line(_as_json(health, destinations)))
    else:
        write_table([], [["service", settings().service], ["status", enum_text(health, "")]])
        _write_destinations(destinations)
    ctx.exit(0 if health == "SERVING" else 1)


async def _ask(service: Connection) -> tuple[str, list[Destination]]:
    """Return the service's health and its destinations; none when it can't list them while it doesn't serve."""
    check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = service.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    answer = await check(HealthCheckRequest(), timeout=service.timeout)
    health = HealthCheckResponse.ServingStatus.Name(answer.status)
    try:
        response = await service.feed.ListDestinations(ListDestinationsRequest(), timeout=service.timeout)
    except grpc.aio.AioRpcError as error:
        if health == "SERVING" or error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        note("the service can't list its destinations while it is not serving; its log tells why")
        return health, []
    return health, list(response.destinations)


def _as_json(health: str, destinations: list[Destination]) -> Mapping[str, Any]:
    items = [
        MessageToDict(item, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for item in destinations
    ]
    return {"service": settings().service, "status": health, "destinations": items}


def _write_destinations(destinations: list[Destination]) -> None:
    if not destinations:
        return
    now = datetime.now(UTC)
    headers = ["destination", "backlog", "leased", "oldest", "consumers"]
    rows = [
        [item.name, str(item.backlog), str(item.leased), _oldest_text(item, now), str(item.consumers)]
        for item in destinations
    ]
    write_line("")
    write_table(headers, rows)


def _oldest_text(item: Destination, now: datetime) -> str:
    return age_text(item.oldest_commit_time, now) if item.HasField("oldest_commit_time") else ""
