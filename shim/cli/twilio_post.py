"""Posts a form the way Twilio does: without credentials first, and again with them once challenged."""

import http.client
import json
import re
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from shim.cli.twilio_form import Form
from shim.cli.usage import CommandError

_REALM = re.compile(r'\bBasic\b.*?\brealm="?([^",]*)', re.IGNORECASE)
_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
    "Accept": "*/*",
    "User-Agent": "TwilioProxy/1.1",
}
_MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to post, and as whom. Built from a URL as it is entered at Twilio."""

    is_tls: bool
    host: str
    port: int | None
    path: str
    credentials: tuple[str, str] | None

    @property
    def base(self) -> str:
        """What comes before the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}{'' if self.port is None else f':{self.port}'}"

    @classmethod
    def from_url(cls, url: str, user: str | None = None, password: str | None = None) -> "Webhook":
        """Split a URL; credentials given apart win. Raises `ValueError`, which never holds the URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError("the URL is none; write it like https://HOST/social/on/whatsapp/…") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("the URL must be like https://HOST/social/on/whatsapp/twilio/message/CHANNEL")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or any(not character.isprintable() or character == " " for character in path):
            raise ValueError("the URL's path must be percent-encoded")
        credentials = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        if user is not None:
            credentials = (user, password or "")
        return cls(parts.scheme == "https", parts.hostname, port, path, credentials)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got."""

    status: int
    seconds: float
    realm: str | None
    content_type: str
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class TwilioCaller:
    """One kept connection to a webhook.

    With `is_challenged` the first request of each message has no credentials.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        timeout_seconds: float,
        is_challenged: bool,
        sign: Callable[[Form], Mapping[str, str]] = lambda _: {},
    ) -> None:
        """Prepare to call; `sign` makes the headers of a form's signature."""
        self._webhook = webhook
        self._sign = sign
        self.is_challenged = is_challenged
        kind = http.client.HTTPSConnection if webhook.is_tls else http.client.HTTPConnection
        self._connection = kind(webhook.host, webhook.port, timeout=timeout_seconds)

    def post(self, form: Form) -> list[Answer]:
        """Post one message; returns the answer to each request that it took.

        Raises `CommandError` when there is no answer.
        """
        body = urlencode(form).encode()
        headers = _HEADERS | {"I-Twilio-Idempotency-Token": str(uuid.uuid4())} | dict(self._sign(form))
        answers = []
        if self.is_challenged:
            answers.append(self._request(body, headers))
            if answers[0].status != 401 or answers[0].realm is None or self._webhook.credentials is None:
                return answers
        if self._webhook.credentials is not None:
            token = b64encode(":".join(self._webhook.credentials).encode()).decode()
            headers |= {"Authorization": f"Basic {token}"}
        return [*answers, self._request(body, headers)]

    def close(self) -> None:
        self._connection.close()

    def _request(self, body: bytes, headers: dict[str, str]) -> Answer:
        started = time.perf_counter()
        with self._failures_explained():
            self._connection.request("POST", self._webhook.path, body, headers)
            response = self._connection.getresponse()
            content = response.read(_MAX_ANSWER_BYTES)
        if not response.isclosed():
            self._connection.close()
        found = _REALM.search(response.getheader("WWW-Authenticate") or "")
        return Answer(
            status=response.status,
            seconds=time.perf_counter() - started,
            realm=found[1] if found else None,
            content_type=response.getheader("Content-Type") or "",
            body=content,
        )

    @contextmanager
    def _failures_explained(self) -> Iterator[None]:
        host = self._webhook.host if self._webhook.port is None else f"{self._webhook.host}:{self._webhook.port}"
        try:
            yield
        except TimeoutError as error:
            raise CommandError(f"{host} did not answer in time: Twilio would count the message as lost") from error
        except (OSError, http.client.HTTPException) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise CommandError(
                f"{host} can't be talked to: {reason}; is the shim running, and the URL right?"
            ) from error


def problem(answers: list[Answer], *, has_credentials: bool) -> str | None:
    """Say what Twilio would make of the answers when the message is lost; None when it is not."""
    last = answers[-1]
    if last.is_success:
        return None
    if last.status == 401 and last.realm is None:
        return "401 without a Basic realm: Twilio would not try again with credentials"
    if last.status == 401 and not has_credentials:
        return "it asks for credentials: give --user and --password-stdin, or put them in the URL"
    if last.status == 401:
        return "401: user or password is wrong, or there is no such channel"
    return f"{last.status}{_detail(last)}"


def remark(answers: list[Answer], *, is_challenged: bool) -> str | None:
    """Say what is odd about a success."""
    last = answers[-1]
    if is_challenged and len(answers) == 1:
        return "it took the message without asking for credentials"
    if last.body and last.content_type.lower().startswith("text/plain"):
        return "it answered with text/plain: Twilio would send that to the person who wrote"
    return None


def _detail(answer: Answer) -> str:
    """Return what a problem document says, field by field."""
    try:
        document: Any = json.loads(answer.body)
        fields = [f"{item['field']}: {item['detail']}" for item in document.get("errors", [])]
        text = "; ".join(fields) or str(document.get("detail") or document.get("title") or "")
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
    return f": {text}" if text else ""
