"""What must hold for any bytes: one function for each place where a stranger's bytes are read, which raises if not."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qsl

from aicc.mo.v1.message_pb2 import MoMessage

from shim.credentials import Credentials, parse_basic
from shim.headers import Headers
from shim.request_head import WebhookHead, is_unambiguous, read_head
from shim.source_address import TrustedProxies
from shim.translation import TRANSLATORS
from shim.translation.forms import MAX_PARAMETERS, Form, FormError, parse_form

P = ParamSpec("P")
T = TypeVar("T")

_PROXIES = TrustedProxies(["0.0.0.0/0", "::/0"])
_VERSIONS = ("1.1", "1.0", "0.9", "2.0")


def read_any_form(body: bytes) -> None:
    """A body is read as Python's own parser reads it, or refused; what becomes a message can be restored from it."""
    form = _or_error(parse_form, body)
    assert _read_by_python(body) == (None if isinstance(form, FormError) else form)
    if isinstance(form, FormError):
        return
    for translator in TRANSLATORS.values():
        assert isinstance(translator.is_status_callback(form), bool)
        for infer_message_type in (False, True):
            message = _or_error(translator.to_message, form, "C1", 1, infer_message_type)
            if isinstance(message, FormError):
                assert {each.field for each in message.violations} <= {*translator.parameter_names.values()}
            else:
                stored = MoMessage.FromString(message.SerializeToString())
                assert sorted(translator.to_form(stored)) == sorted(form)


def _or_error(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | FormError:
    try:
        return read(*args, **kwargs)
    except FormError as error:
        return error


def _read_by_python(body: bytes) -> Form | None:
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    if len(pairs) > MAX_PARAMETERS:
        return None
    try:
        return [(name.encode("latin-1").decode(), value.encode("latin-1").decode()) for name, value in pairs]
    except UnicodeDecodeError:
        return None


def read_any_head(head: bytes) -> None:
    """A head is one for a webhook or refused, whatever is in it."""
    method, target, *lines = (head + b"\n\n").split(b"\n")
    headers = Headers([(name, value) for name, _, value in (line.partition(b":") for line in lines)])
    get = headers.get_list
    assert len(headers.get_all()) == len(lines)
    found = read_head(method, target, get)
    if isinstance(found, WebhookHead):
        _check_credentials(found.credentials)
        assert (method, target.endswith(found.target.encode("latin-1"))) == (b"POST", True)
    else:
        assert 400 <= found.status < 500
    assert {is_unambiguous(version, get) for version in _VERSIONS} <= {True, False}
    assert _PROXIES.find_source("192.0.2.1", get(b"x-forwarded-for"))


def read_any_authorization(value: bytes) -> None:
    """A header is taken for credentials in the one way in which they are written, or for none."""
    credentials = parse_basic([value.decode("latin-1")])
    if credentials:
        _check_credentials(credentials)


def _check_credentials(credentials: Credentials) -> None:
    assert ":" not in credentials.user
    assert f"{credentials.user}:{credentials.password}".encode() == credentials.encoded
    token = b64encode(credentials.encoded).decode()
    assert parse_basic([f"Basic {token}"]) == credentials


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "form": read_any_form,
    "head": read_any_head,
    "authorization": read_any_authorization,
}
