"""What the head of a request says, and whether it is one for a webhook at all. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shim import answers
from shim.answers import Answer
from shim.credentials import Credentials, parse_basic
from shim.translation import TRANSLATORS

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
"""Tiny ones take thirty times their bytes."""
MAX_BODY_BYTES = 256 * 1024
MAX_DISCARDED_BYTES = 1024 * 1024
"""How much of a body is read and thrown away, so that the answer arrives and the connection lives."""

GetHeaders = Callable[[bytes], Sequence[str]]
"""Returns all values of a header, named in lower case."""

_PATH = re.compile(
    # RFC 9112 wants the absolute form understood, and the authority in it ignored: every host is ours.
    rb"(?:https?://[^/?#]*)?"
    rb"(/social/on/whatsapp/(%s)/message/([A-Za-z0-9._~-]{1,128})(?:\?.*)?)"
    % b"|".join(re.escape(name.encode()) for name in TRANSLATORS),
)
_FORM = "application/x-www-form-urlencoded"


class WebhookHead(NamedTuple):
    """The head of a request for a webhook, with well-formed credentials."""

    integrator: str
    channel_config_id: str
    credentials: Credentials
    target: str = ""
    """Path and query, as received."""


def read_head(method: bytes, target: bytes, get_headers: GetHeaders) -> WebhookHead | Answer:
    """Read a head, or find the first reason to refuse it, next to its size: see `check_size`."""
    match = _PATH.fullmatch(target)
    if match is None:
        return answers.NOT_FOUND
    if method != b"POST":
        return answers.METHOD_NOT_ALLOWED
    if not _is_form(get_headers(b"content-type")) or not _is_identity(get_headers(b"content-encoding")):
        return answers.UNSUPPORTED_MEDIA_TYPE
    credentials = parse_basic(get_headers(b"authorization"))
    if credentials is None:
        return answers.CHALLENGE
    return WebhookHead(match[2].decode(), match[3].decode(), credentials, match[1].decode("latin-1"))


def is_unambiguous(version: str, get_headers: GetHeaders) -> bool:
    """Whether whoever passed the request on has seen the same one, as far as the parser doesn't see to it.

    RFC 9112: one host in HTTP/1.1, and one way to tell where the body ends, which in HTTP/1.0 is its length. Codings
    of the transfer other than chunked are nobody's.
    """
    hosts, codings = len(get_headers(b"host")), get_headers(b"transfer-encoding")
    if version == "1.1":
        return hosts == 1 and (not codings or (len(codings) == 1 and codings[0].lower() == "chunked"))
    return version == "1.0" and hosts <= 1 and not codings


def is_to_stay(version: str, get_headers: GetHeaders) -> bool:
    """Whether the caller wants the connection for another request."""
    wishes = {wish.strip().lower() for value in get_headers(b"connection") for wish in value.split(",")}
    return "close" not in wishes and (version == "1.1" or "keep-alive" in wishes)


def check_size(head: WebhookHead | Answer, size: int) -> WebhookHead | Answer:
    """Return what was read of the head, or the refusal for a body of that size if it comes first."""
    if size > MAX_BODY_BYTES and (head is answers.CHALLENGE or isinstance(head, WebhookHead)):
        return answers.TOO_LARGE
    return head


def _is_form(content_types: Sequence[str]) -> bool:
    if len(content_types) != 1:
        return False
    content_type = content_types[0]
    return content_type == _FORM or content_type.partition(";")[0].strip().lower() == _FORM


def _is_identity(content_encodings: Sequence[str]) -> bool:
    return all(encoding.strip().lower() == "identity" for encoding in content_encodings)
