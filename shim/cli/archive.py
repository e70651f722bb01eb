"""Reads the archive, page by page where it takes several."""

from collections.abc import Callable, Iterable, Sequence

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_ingest_pb2 import QuarantinedRequest

from shim.cli.connection import Connection
from shim.cli.output import write_item, write_section
from shim.cli.paging import LARGEST_PAGE, collect
from shim.cli.stored_message import clash_columns, message_fields
from shim.cli.usage import settings


async def list_messages(
    service: Connection,
    request: pb.ListMessagesRequest,
    limit: int,
    is_wanted: Callable[[pb.StoredMessage], bool] = lambda _: True,
) -> list[pb.StoredMessage]:
    """Return up to `limit` messages, newest first; a short or empty page need not be the last."""

    async def fetch_page(size: int, token: str) -> tuple[Iterable[pb.StoredMessage], str]:
        request.page_size, request.page_token = size, token
        page = await service.archive.ListMessages(request, timeout=service.timeout)
        return filter(is_wanted, page.messages), page.next_page_token

    return await collect(fetch_page, limit)


async def list_quarantined(
    service: Connection, channel_config_id: str, *, limit: int | None = None, include_text: bool = False
) -> list[QuarantinedRequest]:
    """Return up to `limit` requests in quarantine, newest first; all of them without one."""
    request = pb.ListQuarantinedRequest(channel_config_id=channel_config_id, include_text=include_text)

    async def fetch_page(size: int, token: str) -> tuple[Sequence[QuarantinedRequest], str]:
        request.page_size, request.page_token = size, token
        page = await service.archive.ListQuarantined(request, timeout=service.timeout)
        return page.requests, page.next_page_token

    # Bodies are up to some hundred KiB each.
    return await collect(fetch_page, limit, largest_page=100 if include_text else LARGEST_PAGE)


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
