"""`mo feed`: takes what waits for a destination, and settles it."""

import time
from collections.abc import Sequence

import click
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb

from shim.cli.connection import Connection, run
from shim.cli.destinations import load_destinations, note_if_unknown
from shim.cli.output import json_line, note, write_items, write_line, write_table
from shim.cli.proto_times import to_duration
from shim.cli.texts import enum_text
from shim.cli.usage import Noun, argument, option, settings
from shim.cli.values import as_duration

# Few enough to be printed well inside the shortest usual lease.
_BATCH = 100
# The service waits 60 s at the most; shorter ones notice sooner that it is gone.
_LONGEST_WAIT_SECONDS = 30.0


@click.group("feed", cls=Noun)
def feed() -> None:
    """Destinations, the queues of AICC services: take what waits in one."""


@feed.verb("pull", example="mo feed pull default --max 100 --wait 5 --ack")
@argument("destination", metavar="DEST")
@option("--max", "most", type=click.IntRange(min=1), default=10, show_default=True, help="How many at the most.")
@option(
    "--wait", type=as_duration, metavar="SECONDS", default="0", help="Go on until that long passes without a new one."
)
@option("--ack", is_flag=True, help="Acknowledge what was printed.")
def pull(destination: str, most: int, wait: float, *, ack: bool) -> None:
    """Print what waits for DEST, one Delivery a line as JSON.

    Prints nothing when there is nothing. A message of a conversation comes
    when the earlier one was acknowledged. What is not acknowledged comes again
    when its lease ends; that is a failed attempt, and after the last one it is
    dead-lettered.
    """
    run(lambda service: _pull(service, destination, most=most, wait=wait, ack=ack))


async def _pull(service: Connection, destination: str, *, most: int, wait: float, ack: bool) -> None:
    printed = 0
    while printed < most:
        deliveries = await _next_deliveries(service, destination, min(most - printed, _BATCH), wait)
        if not deliveries:
            break
        for delivery in deliveries:
            write_line(json_line(delivery))
        # Only what has left for the reader may be acknowledged: a broken pipe has ended the command above.
        if ack:
            await _acknowledge_printed(service, destination, [delivery.ack_id for delivery in deliveries])
        printed += len(deliveries)
    if not printed:
        note_if_unknown(destination, await load_destinations(service))


async def _next_deliveries(service: Connection, destination: str, most: int, wait: float) -> Sequence[pb.Delivery]:
    """Return the next ones, waiting up to `wait` seconds for the first; none when there are none."""
    end = time.monotonic() + wait
    while True:
        step = min(max(0.0, end - time.monotonic()), _LONGEST_WAIT_SECONDS)
        request = pb.PullRequest(destination=destination, max_messages=most, wait=to_duration(step))
        response = await service.feed.Pull(request, timeout=service.timeout + step)
        if response.deliveries or time.monotonic() >= end:
            return response.deliveries


async def _acknowledge_printed(service: Connection, destination: str, ack_ids: Sequence[str]) -> None:
    request = pb.AcknowledgeRequest(destination=destination, ack_ids=ack_ids)
    response = await service.feed.Acknowledge(request, timeout=service.timeout)
    lost = sum(result.status != message_pb.ACK_STATUS_OK for result in response.results)
    if lost:
        note(
            f"{lost} of {len(ack_ids)} were not acknowledged: their leases had ended, "
            "and by then they were handed out again or dead-lettered"
        )


@feed.verb("ack", example="mo feed ack default ACK_ID")
@argument("destination", metavar="DEST")
@argument("ack_ids", metavar="ACK_ID...", nargs=-1, required=True)
@click.pass_context
def ack(ctx: click.Context, destination: str, ack_ids: tuple[str, ...]) -> None:
    """Settle deliveries, and print for each: ok, stale or unknown.

    stale: settled already, or a newer attempt is out. unknown: no ack id of
    DEST. Exits with 1 unless all are ok.
    """
    results = run(lambda service: _acknowledge(service, destination, ack_ids))
    if settings().json:
        write_items(results, {})
    else:
        write_table([], [[_status_text(result), result.ack_id] for result in results])
    ctx.exit(0 if all(result.status == message_pb.ACK_STATUS_OK for result in results) else 1)


async def _acknowledge(service: Connection, destination: str, ack_ids: Sequence[str]) -> list[pb.AckResult]:
    results: list[pb.AckResult] = []
    # The service takes 1,000 a call.
    for start in range(0, len(ack_ids), 1_000):
        request = pb.AcknowledgeRequest(destination=destination, ack_ids=ack_ids[start : start + 1_000])
        response = await service.feed.Acknowledge(request, timeout=service.timeout)
        results += response.results
    return results


def _status_text(item: pb.AckResult) -> str:
    return enum_text(message_pb.AckStatus.Name(item.status), "ACK_STATUS_")
