"""`mo status`: whether all of it works, and what waits where."""

import asyncio
from datetime import UTC, datetime

import click
import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import ListShimsRequest
from aicc.mo.v1.message_archive_pb2 import GetSummaryRequest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from shim.cli.connection import Connection, run
from shim.cli.destinations import load_destinations, note_if_old
from shim.cli.output import json_line, note, write_line, write_section, write_table
from shim.cli.shown_destination import destination_columns
from shim.cli.standing import Details, Standing
from shim.cli.texts import enum_text
from shim.cli.usage import command, settings


@command("status", example="mo status --json")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the service serves, what waits where, and how the shims are.

    Degraded (a shim journals, or has been silent for 15 s, or the service runs
    in a way that should be mended) is said, and is no failure. So it is when
    what waits is still being counted. Exits with 1 when the service doesn't
    serve.
    """
    standing = run(_ask)
    if settings().json:
        write_line(json_line(standing.to_json()))
    else:
        _write(standing)
    ctx.exit(0 if standing.is_serving else 1)


async def _ask(service: Connection) -> Standing:
    """Return how it stands; without details when the service can't tell them while it doesn't serve."""
    health = await _ask_health(service)
    details = None
    try:
        details = await _ask_details(service)
    except grpc.aio.AioRpcError as error:
        if health == "SERVING" or error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        note("the service can't tell more while it is not serving; its log tells why")
    return Standing(settings().service, health, details, datetime.now(UTC))


async def _ask_health(service: Connection) -> str:
    check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = service.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    answer = await check(HealthCheckRequest(), timeout=service.timeout)
    return HealthCheckResponse.ServingStatus.Name(answer.status)


async def _ask_details(service: Connection) -> Details:
    summary, shims = await asyncio.gather(
        service.archive.GetSummary(GetSummaryRequest(), timeout=service.timeout),
        service.directory.ListShims(ListShimsRequest(), timeout=service.timeout),
    )
    try:
        return Details(await load_destinations(service), summary, shims.shims)
    except grpc.aio.AioRpcError as error:
        # It has just told everything else: it only can't count so fast.
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return Details((), summary, shims.shims, uncounted=error.details() or error.code().name)


def _write(standing: Standing) -> None:
    """Write the health and what needs attention, and a table each for destinations, channels and shims."""
    degradations = standing.degradations
    health = enum_text(standing.health, "")
    rows = [["service", standing.service], ["status", f"{health}, degraded" if degradations else health]]
    rows += [["degraded", text] for text in degradations]
    rows += [["dead letters", text] for text in standing.dead_letters]
    details = standing.details
    if details is None:
        write_table([], rows)
        return
    write_table([], [*rows, ["held", str(details.summary.held)], ["quarantined", str(details.summary.quarantined)]])
    if details.uncounted:
        note(f"no destinations are shown: {details.uncounted}")
    write_section(details.destinations, destination_columns(standing.now))
    note_if_old(details.destinations, standing.now)
    write_section(details.summary.channels, standing.channel_columns())
    write_section(details.shims, standing.shim_columns())
