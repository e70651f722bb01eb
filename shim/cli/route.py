"""`mo route`: where a channel's messages go, and why."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1.message_ingest_pb2 import ExplainRouteResponse, RouteExplanation
from aicc.mo.v1.message_pb2 import AssignmentReason, HoldReason

from shim.cli import route_explained
from shim.cli.connection import Connection, run
from shim.cli.output import json_line, note, write_item, write_items, write_line, write_section, write_table
from shim.cli.paging import collect
from shim.cli.route_file import RouteFileError, read_routes, write_toml
from shim.cli.route_windows import window_text
from shim.cli.texts import enum_text, time_text
from shim.cli.usage import CommandError, Noun, argument, option, settings
from shim.cli.values import as_time

_LARGEST_PAGE = 100
"""How many revisions the service gives at once."""


@click.group("route", cls=Noun)
def route() -> None:
    """Routes: rules of a channel, tried in order; the first that matches says where a message goes."""


@route.verb("list", example="mo route list C17 --toml > C17.toml")
@argument("channel_config_id", metavar="CHANNEL")
@option("--toml", is_flag=True, help="Print the file that `mo route set` takes.")
def list_routes(channel_config_id: str, *, toml: bool) -> None:
    """List the routes of a channel in the order in which they are tried."""
    request = pb.GetRoutesRequest(channel_config_id=channel_config_id)
    response = run(lambda service: service.directory.GetRoutes(request, timeout=service.timeout))
    if toml:
        sys.stdout.write(write_toml(response.routes))
        return
    columns = {
        "id": lambda item: item.route_id,
        "destinations": lambda item: ", ".join(item.destinations),
        "matches": _match_text,
    }
    write_items(response.routes, columns)


def _match_text(item: pb.Route) -> str:
    fields = [f"{field.name}={_value_text(value)}" for field, value in item.match.ListFields()]
    return " and ".join(fields) or "every message"


def _value_text(value: Any) -> str:
    if isinstance(value, str | bool | float):
        return json.dumps(value, ensure_ascii=False)
    texts = [window_text(each) if isinstance(each, pb.TimeWindow) else each for each in value]
    return json.dumps(texts, ensure_ascii=False)


def _set_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if params.get("last") is not None and not params.get("dry_run"):
        yield "--last goes with --dry-run."
    if params.get("expected_revision") is not None and params.get("dry_run"):
        yield "--expected-revision and --dry-run exclude each other."


_SETTING = """\
mo route set C17 C17.toml --dry-run
mo route set C17 C17.toml
A file has a table for each route, like this:
[[route]]
id = "orders"
destinations = ["bot"]
keywords = ["order", "parcel"]
time_windows = [{ time_zone = "Europe/Berlin", days = ["mon-fri"], start = "09:00", end = "17:00" }]
percentage = 12.5"""


@route.verb("set", example=_SETTING, check=_set_faults)
@argument("channel_config_id", metavar="CHANNEL")
@argument("file", metavar="FILE")
@option("--expected-revision", type=click.IntRange(min=0), metavar="N", help="Replace only this revision.")
@option("--dry-run", is_flag=True, help="Change nothing: show which stored messages would go another way.")
@option("--last", type=click.IntRange(1, 10_000), metavar="N", help="Try so many of the newest. [default: 1000]")
@click.pass_context
def set_routes(
    ctx: click.Context,
    channel_config_id: str,
    file: str,
    expected_revision: int | None,
    last: int | None,
    *,
    dry_run: bool,
) -> None:
    """Replace all routes of a channel by those in FILE (TOML; JSON if *.json; - is standard input)."""
    try:
        routes = read_routes(_read(file), is_json=None if file == "-" else file.endswith(".json"))
    except RouteFileError as error:
        raise click.UsageError("\n".join(f"{_name(file)}: {fault}" for fault in error.faults), ctx) from error
    if dry_run:
        _try(pb.TryRoutesRequest(channel_config_id=channel_config_id, routes=routes, max_messages=last or 0))
        return
    request = pb.SetRoutesRequest(
        channel_config_id=channel_config_id, routes=routes, expected_revision=expected_revision
    )
    response = run(lambda service: service.directory.SetRoutes(request, timeout=service.timeout))
    write_item(response, {"routes": str(len(routes)), "revision": str(response.revision)})
    _warn(response.warnings)


def _try(request: pb.TryRoutesRequest) -> None:
    """Show what a draft would change."""
    response = run(lambda service: service.directory.TryRoutes(request, timeout=service.timeout))
    write_item(response, {"messages tried": str(response.messages), "different": str(response.different)})
    if not settings().json:
        columns = {
            "sid": lambda item: item.message_sid,
            "route": lambda item: item.route_id or "none matches",
            "destinations": lambda item: ", ".join(item.destinations) or "held",
            "new route": lambda item: item.draft_route_id or "none matches",
            "new destinations": lambda item: ", ".join(item.draft_destinations) or "held",
        }
        write_section(response.differences, columns)
    if response.different > len(response.differences):
        note(f"of the {response.different} that differ, the newest {len(response.differences)} are shown")
    _warn(response.warnings)


def _warn(warnings: Iterable[pb.RouteWarning]) -> None:
    for warning in warnings:
        note(f'warning: route "{warning.route_id}" {warning.description}')


@route.verb("history", example="mo route history C17\nmo route history C17 --revision 4 > C17.toml")
@argument("channel_config_id", metavar="CHANNEL")
@option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at the most.")
@option("--revision", type=click.IntRange(min=1), metavar="N", help="Print this one, as `mo route set` takes it.")
def history(channel_config_id: str, limit: int, revision: int | None) -> None:
    """List the revisions of a channel's routes, newest first."""
    if revision is not None:
        found = run(lambda service: _load_revision(service, channel_config_id, revision))
        sys.stdout.write(f"{json_line(found)}\n" if settings().json else write_toml(found.routes))
        return
    columns = {
        "revision": lambda item: str(item.revision),
        "set": lambda item: time_text(item.create_time),
        "routes": lambda item: str(len(item.routes)),
        "ids": lambda item: ", ".join(each.route_id for each in item.routes),
    }
    write_items(run(lambda service: _list_revisions(service, channel_config_id, limit)), columns)


async def _list_revisions(service: Connection, channel_config_id: str, limit: int) -> list[pb.RouteRevision]:
    async def fetch_page(size: int, token: str) -> tuple[Iterable[pb.RouteRevision], str]:
        request = pb.ListRouteRevisionsRequest(channel_config_id=channel_config_id, page_size=size, page_token=token)
        page = await service.directory.ListRouteRevisions(request, timeout=service.timeout)
        return page.revisions, page.next_page_token

    return await collect(fetch_page, limit, largest_page=_LARGEST_PAGE)


async def _load_revision(service: Connection, channel_config_id: str, revision: int) -> pb.RouteRevision:
    """Page back to a revision. Raises `CommandError` when there is none of that number."""
    request = pb.ListRouteRevisionsRequest(channel_config_id=channel_config_id, page_size=_LARGEST_PAGE)
    while True:
        page = await service.directory.ListRouteRevisions(request, timeout=service.timeout)
        for found in page.revisions:
            if found.revision == revision:
                return found
        request.page_token = page.next_page_token
        if not request.page_token:
            raise CommandError(f"there is no revision {revision}; see: mo route history {channel_config_id}")


@route.verb(
    "explain",
    example=(
        'mo route explain C17 --type text --body "where is my order"\n'
        "mo route explain C17 --sid SM00000000000000000000000000000001\n"
        "mo route explain C17 --form - < webhook.txt"
    ),
    check=route_explained.explain_faults,
)
@argument("channel_config_id", metavar="CHANNEL")
@option("--type", "message_type", metavar="NAME", help="MessageType as sent, for example text. [default: text]")
@option("--body", help="The text.")
@option("--sender", help="Who wrote, as sent: whatsapp:+447700900123.")
@option("--button-payload", help="The payload of the button that was tapped.")
@option("--reply", "is_reply", is_flag=True, help="It replies to an earlier message.")
@option("--referral", "has_referral", is_flag=True, help="It came from an advertisement.")
@option("--received", type=as_time, metavar="TIME", help="When it was received. [default: now]")
@option("--sid", help="A stored message instead, by its MessageSid.")
@option("--form", metavar="FILE", help="The body that Twilio posts instead, urlencoded; - is standard input.")
@option("--message-json", metavar="FILE", help="A MoMessage as JSON instead; - is standard input.")
def explain(
    channel_config_id: str, sid: str | None, form: str | None, message_json: str | None, **described: Any
) -> None:
    """Tell which route a message would take, and why not the earlier ones. Stores nothing."""
    if sid is not None:
        response = run(lambda service: route_explained.explain_stored(service, channel_config_id, sid))
    elif form is not None:
        body = _read_bytes(form)
        response = run(lambda service: route_explained.explain_form(service, channel_config_id, body, _name(form)))
    else:
        if message_json is None:
            message = route_explained.described_message(**described)
        else:
            message = route_explained.message_from_json(_read(message_json), _name(message_json))
        response = run(lambda service: route_explained.explain_message(service, channel_config_id, message))
    _write_explanation(response)


def _write_explanation(response: ExplainRouteResponse) -> None:
    if settings().json:
        write_line(json_line(response))
        return
    write_table([], _verdict(response))
    if response.explanations:
        write_line("")
        headers = ["route", "result", "why not"]
        write_table(headers, [_explanation(item) for item in response.explanations])


def _verdict(response: ExplainRouteResponse) -> list[list[str]]:
    held = enum_text(HoldReason.Name(response.hold_reason), "HOLD_REASON_")
    where = ["destinations", ", ".join(response.destinations)] if response.destinations else ["held", held]
    rows = [["route", response.route_id or "none matches"], ["revision", str(response.route_revision)], where]
    if response.HasField("assignment"):
        stays = response.assignment
        reason = enum_text(AssignmentReason.Name(stays.reason), "ASSIGNMENT_REASON_")
        rows.append(["stays with", f"{stays.destination} until {time_text(stays.expire_time)} ({reason})"])
    return rows


def _explanation(item: RouteExplanation) -> list[str]:
    return [item.route_id, "matches" if item.matched else "no", "; ".join(item.mismatches)]


def _read(file: str) -> str:
    """Return a file's text. Raises `CommandError` when it can't be read."""
    try:
        return _read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{_name(file)} is not UTF-8; save it as UTF-8") from error


def _read_bytes(file: str) -> bytes:
    """Return what is in a file. Raises `CommandError` when it can't be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{_name(file)} can't be read: {error.strerror}") from error


def _name(file: str) -> str:
    return "standard input" if file == "-" else click.format_filename(file)
