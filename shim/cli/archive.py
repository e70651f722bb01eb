"""Reads the archive, page by page where it takes several."""

from collections.abc import Callable

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_ingest_pb2 import QuarantinedRequest

from shim.cli.connection import Connection
from shim.cli.output import write_item, write_section
from shim.cli.stored_message import clash_columns, message_fields
from shim.cli.usage import settings

_PAGE = 1_000


async def list_messages(
    service: Connection,
    request: pb.ListMessagesRequest,
    limit: int,
    is_wanted: Callable[[pb.StoredMessage], bool] = lambda _: True,
) -> list[pb.StoredMessage]:
    """Return up to `limit` messages, newest first; a short or empty page need not be the last."""
    found: list[pb.StoredMessage] = []
    while True:
        request.page_size = min(limit - len(found), _PAGE)
        page = await service.archive.ListMessages(request, timeout=service.timeout)
        found += filter(is_wanted, page.messages)
        if not page.next_page_token or len(found) >= limit:
            return found[:limit]
        request.page_token = page.next_page_token


async def list_quarantined(
    service: Connection, channel_config_id: str, *, limit: int | None = None, include_text: bool = False
) -> list[QuarantinedRequest]:
    """Return up to `limit` requests in quarantine, newest first; all of them without one."""
    # Bodies are up to some hundred KiB each.
    most = 100 if include_text else _PAGE
    found: list[QuarantinedRequest] = []
    request = pb.ListQuarantinedRequest(channel_config_id=channel_config_id, include_text=include_text)
    while True:
        request.page_size = most if limit is None else min(limit - len(found), most)
        page = await service.archive.ListQuarantined(request, timeout=service.timeout)
        found += page.requests
        if not page.next_page_token or (limit is not None and len(found) >= limit):
            return found[:limit]
        request.page_token = page.next_page_token


async def load_message(
    service: Connection, channel_config_id: str, message_sid: str, *, include_text: bool = False
) -> pb.StoredMessage:
    """Return one message."""
    request = pb.GetMessageRequest(
        channel_config_id=channel_config_id, message_sid=message_sid, include_text=include_text
    )
    return (await service.archive.GetMessage(request, timeout=service.timeout)).message


def write_message(found: pb.StoredMessage, *, include_text: bool) -> None:
    """Write one message, and the others that came with its id."""
    write_item(found, message_fields(found))
    if not settings().json:
        write_section(found.clashes, clash_columns(include_text=include_text))
