"""Every answer of the public port. Pure: what is said, not how it is sent.

Never text/plain (Twilio would send it to the customer), never a cookie, never 429, which Twilio doesn't know.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus

from shim.translation.forms import Violation


@dataclass(frozen=True)
class Answer:
    """A response, and the name that it is counted under."""

    name: str
    status: HTTPStatus
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    is_delayed: bool = False
    """Whether the caller has to wait for it, so that one who guesses doesn't ask again at once."""

    @cached_property
    def open(self) -> bytes:
        """The whole response, leaving the connection open as HTTP/1.1 does."""
        return self.encode()

    @cached_property
    def closing(self) -> bytes:
        """The whole response, announcing that the connection closes."""
        return self.encode("close")

    def encode(self, connection: str | None = None, *, has_body: bool = True) -> bytes:
        """Encode the response for HTTP/1.1, with that `Connection` header; without its body for a HEAD request."""
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", "Cache-Control: no-store"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        if connection:
            lines.append(f"Connection: {connection}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + (self.body if has_body else b"")


def _problem(name: str, status: HTTPStatus, detail: str, errors: Sequence[Violation] = (), **headers: str) -> Answer:
    """Make an RFC 9457 answer; a keyword such as `Retry_After` is the header Retry-After."""
    problem: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if errors:
        problem["errors"] = [{"field": error.field, "detail": error.detail} for error in errors]
    named = [(key.replace("_", "-"), value) for key, value in headers.items()]
    return Answer(name, status, (("Content-Type", "application/problem+json"), *named), json.dumps(problem).encode())


def _unauthorized(name: str) -> Answer:
    # Byte by byte the same for every caller, so that it tells nobody which channels and users there are.
    return _problem(
        name,
        HTTPStatus.UNAUTHORIZED,
        "Send the webhook user and password of this channel as HTTP Basic authentication.",
        WWW_Authenticate='Basic realm="aicc-mo", charset="UTF-8"',
    )


def _try_again(name: str, detail: str, *, is_delayed: bool = False) -> Answer:
    answer = _problem(name, HTTPStatus.SERVICE_UNAVAILABLE, f"{detail} Try again.", Retry_After="1")
    return replace(answer, is_delayed=is_delayed)


MALFORMED = _problem("malformed", HTTPStatus.BAD_REQUEST, "Send HTTP/1.1 that can be read in one way only.")
HEAD_TOO_LARGE = _problem(
    "head_too_large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head has over 16384 bytes or 100 headers."
)
NOT_FOUND = _problem(
    "not_found",
    HTTPStatus.NOT_FOUND,
    "There is nothing here. Webhooks go to /social/on/whatsapp/twilio/message/{channelConfigId}.",
)
METHOD_NOT_ALLOWED = _problem("method_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Send POST.", Allow="POST")
UNSUPPORTED_MEDIA_TYPE = _problem(
    "unsupported_media_type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "Send application/x-www-form-urlencoded without a content encoding.",
)
TOO_LARGE = _problem("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is over 262144 bytes.")
CHALLENGE = _unauthorized("challenge")
BAD_CREDENTIALS = _unauthorized("bad_credentials")
DISABLED = _problem("disabled", HTTPStatus.FORBIDDEN, "This channel is disabled. Its operator can enable it.")
SIGNATURE_REFUSED = _problem(
    "signature_refused", HTTPStatus.FORBIDDEN, "The signature of this request is missing or wrong."
)
SIGNATURE_UNCHECKABLE = _try_again("signature_uncheckable", "The signature of this request can't be checked here.")
STATUS_CALLBACK = Answer("status_callback", HTTPStatus.NO_CONTENT)
UNREADY = _try_again("unready", "The gateway has no channel directory yet.")
VERIFICATION_OVERLOADED = _try_again(
    "verification_overloaded", "Too many credentials wait to be verified.", is_delayed=True
)
VERIFICATION_LIMITED = _try_again(
    "verification_limited", "Too many wrong credentials were sent. Check the user and the password.", is_delayed=True
)
OVERLOADED = _try_again("overloaded", "Too many messages wait to be stored.")
UNAVAILABLE = _try_again("unavailable", "The message could not be stored in time.")
SERVICE_FAULT = _try_again("service_fault", "The message could not be stored.")
INTERNAL_ERROR = _problem("internal_error", HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway failed. Its log says where.")

_STORED = ("accepted", "duplicate", "held", "erased", "journalled")


def stored_answers(reply: str) -> Mapping[str, Answer]:
    """Return what a stored message is answered with: nothing, or with `reply="twiml"` an empty TwiML document."""
    if reply == "twiml":
        twiml = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
        return {name: Answer(name, HTTPStatus.OK, (("Content-Type", "text/xml"),), twiml) for name in _STORED}
    return {name: Answer(name, HTTPStatus.NO_CONTENT) for name in _STORED}


def invalid(detail: str, violations: Sequence[Violation] = ()) -> Answer:
    """Make the answer to what is no valid MO message; it names every bad parameter and holds no value."""
    return _problem("invalid", HTTPStatus.BAD_REQUEST, detail, violations)


NAMES = frozenset(
    {
        "invalid",
        *_STORED,
        *(value.name for value in list(globals().values()) if isinstance(value, Answer)),
    }
)
"""The names of all answers."""
