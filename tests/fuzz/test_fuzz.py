"""A stranger's bytes, many of them: nothing they can be makes the public port fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from tests.fuzz.port import Port, check_answers
from tests.fuzz.requests import AUTHORIZATION_HEADERS, FORMS, HEADS, REQUESTS
from tests.fuzz.targets import read_any_authorization, read_any_form, read_any_head

# So cheap that more of them are worth it, whatever the profile.
MANY = settings(max_examples=10 * settings().max_examples)


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.check()
    port.close()


@MANY
@given(FORMS)
def test_any_body_becomes_a_message_that_lost_nothing_or_is_refused(body: bytes) -> None:
    read_any_form(body)


@MANY
@given(HEADS)
def test_any_head_is_one_for_a_webhook_or_refused(head: bytes) -> None:
    read_any_head(head)


@MANY
@given(AUTHORIZATION_HEADERS)
def test_any_authorization_is_read_or_refused(value: bytes) -> None:
    read_any_authorization(value)


@MANY
@given(sent=REQUESTS)
def test_any_bytes_are_answered_with_whole_answers_or_not_at_all(port: Port, sent: bytes) -> None:
    port.read_any_request(sent)


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nCache-Control: no-store\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\nmore\r\n\r\n",
    ],
)
def test_the_check_of_answers_fails_when_it_should(received: bytes) -> None:
    with pytest.raises(AssertionError):
        check_answers(received)
