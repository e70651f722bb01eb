"""`mo route`: where a channel's messages go, and why."""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1.message_ingest_pb2 import ExplainRouteRequest, ExplainRouteResponse, RouteExplanation
from aicc.mo.v1.message_pb2 import HoldReason, MoMessage
from google.protobuf.json_format import Parse, ParseError

from shim.cli.connection import run
from shim.cli.output import json_line, write_item, write_items, write_line, write_table
from shim.cli.route_file import RouteFileError, read_routes, write_toml
from shim.cli.texts import enum_text
from shim.cli.usage import CommandError, Noun, argument, option, settings
from shim.translation.twilio import to_message


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
    return json.dumps(value if isinstance(value, str | bool) else list(value), ensure_ascii=False)


@route.verb("set", example="mo route set C17 C17.toml")
@argument("channel_config_id", metavar="CHANNEL")
@argument("file", metavar="FILE")
@option("--expected-revision", type=click.IntRange(min=0), metavar="N", help="Replace only this revision.")
@click.pass_context
def set_routes(ctx: click.Context, channel_config_id: str, file: str, expected_revision: int | None) -> None:
    r"""Replace all routes of a channel by those in FILE (TOML; JSON if *.json; - is standard input).

    \b
    [[route]]
    id = "orders"
    keywords = ["order", "parcel"]
    destinations = ["bot"]
    """
    try:
        routes = read_routes(_read(file), is_json=None if file == "-" else file.endswith(".json"))
    except RouteFileError as error:
        raise click.UsageError("\n".join(f"{_name(file)}: {fault}" for fault in error.faults), ctx) from error
    request = pb.SetRoutesRequest(
        channel_config_id=channel_config_id, routes=routes, expected_revision=expected_revision
    )
    response = run(lambda service: service.directory.SetRoutes(request, timeout=service.timeout))
    write_item(response, {"routes": str(len(routes)), "revision": str(response.revision)})


def _read(file: str) -> str:
    """Return a file's text. Raises `CommandError` when it can't be read."""
    try:
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{_name(file)} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{_name(file)} is not UTF-8; save it as UTF-8") from error


def _name(file: str) -> str:
    return "standard input" if file == "-" else click.format_filename(file)


_DESCRIBING = ("message_type", "body", "sender", "button_payload", "is_reply", "has_referral")


def _explain_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if params.get("message_json") and any(params.get(name) not in {None, False} for name in _DESCRIBING):
        yield "--message-json and options that describe a message exclude each other."


@route.verb("explain", example='mo route explain C17 --type text --body "where is my order"', check=_explain_faults)
@argument("channel_config_id", metavar="CHANNEL")
@option("--type", "message_type", metavar="NAME", help="MessageType as sent, for example text. [default: text]")
@option("--body", help="The text.")
@option("--sender", help="Who wrote, as sent.")
@option("--button-payload", help="The payload of the button that was tapped.")
@option("--reply", "is_reply", is_flag=True, help="It replies to an earlier message.")
@option("--referral", "has_referral", is_flag=True, help="It came from an advertisement.")
@option("--message-json", metavar="FILE", help="A MoMessage as JSON instead; - is standard input.")
def explain(channel_config_id: str, message_json: str | None, **described: Any) -> None:
    """Tell which route a message would take, and why not the earlier ones. Stores nothing."""
    message = _message_from_json(message_json) if message_json else _described_message(**described)
    message.channel_config_id = channel_config_id
    request = ExplainRouteRequest(message=message)
    response = run(lambda service: service.ingest.ExplainRoute(request, timeout=service.timeout))
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
    return [["route", response.route_id or "none matches"], ["revision", str(response.route_revision)], where]


def _explanation(item: RouteExplanation) -> list[str]:
    return [item.route_id, "matches" if item.matched else "no", "; ".join(item.mismatches)]


def _described_message(
    *,
    message_type: str | None,
    body: str | None,
    sender: str | None,
    button_payload: str | None,
    is_reply: bool,
    has_referral: bool,
) -> MoMessage:
    """Build the message the way a webhook's form becomes one, so that both are routed alike."""
    given = {
        "MessageType": message_type or "text",
        "Body": body,
        "ButtonPayload": button_payload,
        "OriginalRepliedMessageSid": "-" if is_reply else None,
        "ReferralSourceId": "-" if has_referral else None,
    }
    form = [("MessageSid", "-"), ("From", sender or "-"), ("To", "-")]
    form += [(name, value) for name, value in given.items() if value is not None]
    return to_message(form, "", time.time_ns(), infer_message_type=False)


def _message_from_json(file: str) -> MoMessage:
    text = _read(file)
    try:
        if not text.lstrip().startswith("{"):
            raise ParseError("no JSON object")
        return Parse(text, MoMessage())
    except (ParseError, AttributeError, TypeError) as error:
        text = f"{_name(file)} is no MoMessage as JSON; `mo message show --include-text --json` prints one in `message`"
        raise CommandError(text) from error
