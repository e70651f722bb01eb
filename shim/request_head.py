"""What the head of a request says, and whether it is one for a webhook at all. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shim import answers
from shim.answers import Answer
from shim.credentials import Credentials, parse_basic
from shim.translation import TRANSLATORS

MAX_BODY_BYTES = 256 * 1024
MAX_DISCARDED_BYTES = 1024 * 1024
"""How much of a body is read and thrown away, so that the answer arrives and the connection lives."""

_PATH = re.compile(
    # RFC 9112 wants the absolute form understood, and the authority in it ignored: every host is ours.
    r"(?:https?://[^/?#]*)?"
    rf"(/social/on/whatsapp/({'|'.join(map(re.escape, TRANSLATORS))})/message/([A-Za-z0-9._~-]{{1,128}})(?:\?.*)?)",
)
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class WebhookHead:
    """The head of a request for a webhook, with well-formed credentials."""

    integrator: str
    channel_config_id: str
    credentials: Credentials
    target: str = ""
    """Path and query, as received."""


def read_head(method: str, path: str, get_headers: Callable[[str], Sequence[str]]) -> WebhookHead | Answer:
    """Read a head, or find the first reason to refuse it, next to its size: see `check_size`.

    `get_headers` returns all values of a header.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return answers.NOT_FOUND
    if method != "POST":
        return answers.METHOD_NOT_ALLOWED
    if not _is_form(get_headers("Content-Type")) or not _is_identity(get_headers("Content-Encoding")):
        return answers.UNSUPPORTED_MEDIA_TYPE
    credentials = parse_basic(get_headers("Authorization"))
    if credentials is None:
        return answers.CHALLENGE
    return WebhookHead(match[2], match[3], credentials, match[1])


def is_unambiguous(version: str, get_headers: Callable[[str], Sequence[str]]) -> bool:
    """Whether whoever passed the request on has seen the same one, as far as Tornado doesn't see to it.

    RFC 9112: one host in HTTP/1.1, and one way to tell where the body ends, which in HTTP/1.0 is its length.
    """
    hosts, lengths = len(get_headers("Host")), get_headers("Content-Length")
    if hosts > 1 or (not hosts and version == "HTTP/1.1") or len(lengths) > 1 or (lengths and "," in lengths[0]):
        return False
    return version == "HTTP/1.1" or not get_headers("Transfer-Encoding")


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
