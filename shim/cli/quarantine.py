"""`mo quarantine`: authenticated requests that were no valid MO message."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from aicc.mo.v1.message_archive_pb2 import DiscardQuarantinedRequest, GetQuarantinedRequest
from aicc.mo.v1.message_ingest_pb2 import IngestOutcome, QuarantinedRequest
from aicc.mo.v1.message_pb2 import FieldViolation, HoldReason

from shim.cli import archive
from shim.cli.confirmation import confirm_final
from shim.cli.connection import Connection, run
from shim.cli.output import json_line, json_object, note, write_item, write_items, write_line, write_table
from shim.cli.progress import progress
from shim.cli.retry import Retried, Retry
from shim.cli.texts import enum_text, time_text
from shim.cli.usage import Noun, argument, option, settings

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What the service takes in one call.
_BATCH = 1_000


@click.group("quarantine", cls=Noun)
def quarantine() -> None:
    """Quarantine: requests of verified callers that were no valid message, kept as they came."""


@quarantine.verb("list", example="mo quarantine list --channel C17")
@option("--channel", "channel_config_id", metavar="ID", default="", help="Only those of this channel.")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
@option("--include-text", is_flag=True, help="Show the bodies, too.")
def list_entries(*, channel_config_id: str, limit: int, include_text: bool) -> None:
    """List the requests in quarantine, newest first, and what is wrong with each."""
    found = run(
        lambda service: archive.list_quarantined(service, channel_config_id, limit=limit, include_text=include_text)
    )
    columns: dict[str, Callable[[QuarantinedRequest], str]] = {
        "received": lambda item: time_text(item.receive_time),
        "id": lambda item: item.entry_id,
        "channel": lambda item: item.channel_config_id,
        "answer": _answer_text,
        "reasons": lambda item: _reasons_text(item.reasons),
    }
    if include_text:
        columns["body"] = _body_text
    write_items(found, columns)


@quarantine.verb("show", example="mo quarantine show ID --include-text")
@argument("entry_id", metavar="ID")
@option("--include-text", is_flag=True, help="Show the headers and the body, too.")
def show(entry_id: str, *, include_text: bool) -> None:
    """Show one request, and what was wrong with each of its fields."""
    request = GetQuarantinedRequest(entry_id=entry_id, include_text=include_text)
    found = run(lambda service: service.archive.GetQuarantined(request, timeout=service.timeout)).request
    write_item(found, _fields(found))


def _selection_faults(params: Mapping[str, Any]) -> Iterable[str]:
    given = [params.get(name) for name in ("entry_ids", "channel_config_id", "is_everything")]
    if sum(map(bool, given)) != 1:
        yield "Give either IDs, or --channel, or --all."


def _selection(function: _Function) -> _Function:
    """Add what says which requests are meant."""
    function = option("--all", "is_everything", is_flag=True, help="All in quarantine.")(function)
    function = option("--channel", "channel_config_id", metavar="ID", default="", help="All of this channel.")(function)
    return argument("entry_ids", metavar="[ID...]", nargs=-1)(function)


@quarantine.verb("retry", example="mo quarantine retry --channel C17", check=_selection_faults)
@_selection
@click.pass_context
def retry(ctx: click.Context, /, entry_ids: tuple[str, ...], channel_config_id: str, **_: Any) -> None:
    """Translate requests again, and store those that are valid messages now.

    For after a mend: a newer mo, or mo channel update --infer-message-type.
    Oldest first; named ones as named. Exits with 1 when any stays in
    quarantine.
    """
    results: list[Retried] = []
    try:
        run(lambda service: _retry(service, entry_ids, channel_config_id, results))
    finally:
        # What was done before a failure is told, too.
        _write_results(results)
    stayed = sum(not item.is_settled for item in results)
    if stayed:
        note(f"{stayed} of {len(results)} stay in quarantine; discard what can't become a message")
    ctx.exit(1 if stayed else 0)


async def _retry(service: Connection, entry_ids: Sequence[str], channel_config_id: str, results: list[Retried]) -> None:
    chosen = await _choose(service, entry_ids, channel_config_id)
    again = Retry(service)
    with progress("retrying", len(chosen), is_wanted=len(chosen) > 1) as advance:
        # One by one: the order of the calls becomes the order of the conversations.
        for entry_id in chosen:
            results.append(await again.retry(entry_id))
            advance(1)


@quarantine.verb("discard", example="mo quarantine discard --channel C17 --yes", check=_selection_faults)
@_selection
@option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def discard(ctx: click.Context, /, entry_ids: tuple[str, ...], channel_config_id: str, *, yes: bool, **_: Any) -> None:
    """Drop requests for good. Exits with 1 when a named one isn't in quarantine."""
    if not yes:
        confirm_final(f"discarding {_selection_text(entry_ids, channel_config_id)}")
    discarded = run(lambda service: _discard(service, entry_ids, channel_config_id))
    write_item({"discarded": discarded}, {"discarded": str(discarded)})
    missing = len(set(entry_ids)) - discarded
    if missing > 0:
        note(f"{missing} of the named ones are not in quarantine, or were settled already")
    ctx.exit(1 if missing > 0 else 0)


async def _discard(service: Connection, entry_ids: Sequence[str], channel_config_id: str) -> int:
    chosen = await _choose(service, entry_ids, channel_config_id)
    discarded = 0
    with progress("discarding", len(chosen), is_wanted=len(chosen) > _BATCH) as advance:
        for start in range(0, len(chosen), _BATCH):
            request = DiscardQuarantinedRequest(entry_ids=chosen[start : start + _BATCH])
            response = await service.archive.DiscardQuarantined(request, timeout=service.timeout)
            discarded += response.discarded
            advance(len(request.entry_ids))
    return discarded


async def _choose(service: Connection, entry_ids: Sequence[str], channel_config_id: str) -> list[str]:
    """Return the named entries, each once; without any, those of the channel or all, oldest first."""
    if entry_ids:
        return list(dict.fromkeys(entry_ids))
    newest_first = await archive.list_quarantined(service, channel_config_id)
    return [item.entry_id for item in reversed(newest_first)]


def _selection_text(entry_ids: Sequence[str], channel_config_id: str) -> str:
    if entry_ids:
        return f"{len(entry_ids)} quarantined requests"
    of_channel = f' of channel "{channel_config_id}"' if channel_config_id else ""
    return f"all quarantined requests{of_channel}"


def _write_results(results: Sequence[Retried]) -> None:
    if settings().json:
        for item in results:
            line = {"entry_id": item.entry_id, "message_sid": item.message_sid, **json_object(item.result)}
            write_line(json_line(line))
    elif results:
        rows = [[item.entry_id, _result_text(item), item.message_sid, _why_text(item)] for item in results]
        write_table(["id", "result", "sid", "why"], rows)


def _result_text(item: Retried) -> str:
    return enum_text(IngestOutcome.Name(item.result.outcome), "INGEST_OUTCOME_") if item.is_settled else "stays"


def _why_text(item: Retried) -> str:
    if item.result.hold_reason:
        return enum_text(HoldReason.Name(item.result.hold_reason), "HOLD_REASON_")
    return _reasons_text(item.result.violations)


def _answer_text(item: QuarantinedRequest) -> str:
    return "accepted" if item.is_accepted else "refused"


def _reasons_text(reasons: Iterable[FieldViolation]) -> str:
    return " | ".join(": ".join(filter(None, [reason.field, reason.description])) for reason in reasons)


def _body_text(item: QuarantinedRequest) -> str:
    return item.body.decode(errors="backslashreplace")


def _fields(item: QuarantinedRequest) -> dict[str, str]:
    fields = {
        "id": item.entry_id,
        "channel": item.channel_config_id,
        "integrator": item.integrator,
        "received": time_text(item.receive_time),
        "answer": _answer_text(item),
    }
    fields |= {f"reason {number}": _reasons_text([reason]) for number, reason in enumerate(item.reasons, 1)}
    fields |= {f"header {number}": f"{header.name}: {header.value}" for number, header in enumerate(item.headers, 1)}
    return fields | ({"body": _body_text(item)} if item.body else {})
