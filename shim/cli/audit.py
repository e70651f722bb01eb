"""`mo audit`: what was done by hand, by whom and when."""

from collections.abc import Callable, Sequence

import click
from aicc.mo.v1 import message_archive_pb2 as pb

from shim.cli.connection import Connection, run
from shim.cli.output import note, write_items
from shim.cli.paging import collect
from shim.cli.texts import time_text
from shim.cli.usage import Noun, option

_COLUMNS: dict[str, Callable[[pb.AuditEntry], str]] = {
    "time": lambda item: time_text(item.time),
    "actor": lambda item: item.actor,
    "action": lambda item: item.action,
    "details": lambda item: ", ".join(f"{name}={value}" for name, value in sorted(item.details.items())),
}


@click.group("audit", cls=Noun)
def audit() -> None:
    """Audit: what was done by hand, by whom and when."""


@audit.verb("list", example="mo audit list --action erase --limit 20")
@option("--action", metavar="NAME", default="", help="Only entries with this action, as the list spells it.")
@option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at the most.")
def list_entries(*, action: str, limit: int) -> None:
    """List what was done by hand, and what followed from it, newest first.

    Who did it is whom the caller's certificate names, with what it called itself
    (--operator); without a certificate that alone, else its address. gateway is
    the gateway itself. Entries are never changed or removed.
    """
    request = pb.ListAuditEntriesRequest(action=action)
    found = run(lambda service: _list_entries(service, request, limit))
    write_items(found, _COLUMNS)
    if action and not found:
        note(f'no entry has the action "{action}"; is it spelled as mo audit list spells it?')


async def _list_entries(service: Connection, request: pb.ListAuditEntriesRequest, limit: int) -> list[pb.AuditEntry]:
    async def fetch_page(size: int, token: str) -> tuple[Sequence[pb.AuditEntry], str]:
        request.page_size, request.page_token = size, token
        page = await service.archive.ListAuditEntries(request, timeout=service.timeout)
        return page.entries, page.next_page_token

    return await collect(fetch_page, limit)
