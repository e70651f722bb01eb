"""RFC 7617, read strictly."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.credentials import parse_basic

printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


def token(text: str) -> str:
    return b64encode(text.encode()).decode()


@given(printable.filter(lambda text: ":" not in text), printable)
def test_any_user_and_password_come_through(user: str, password: str) -> None:
    credentials = parse_basic([f"Basic {token(f'{user}:{password}')}"])
    assert credentials is not None
    assert (credentials.user, credentials.password) == (user, password)


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC ", "bAsIc   "])
def test_the_scheme_has_no_case(scheme: str) -> None:
    assert parse_basic([scheme + token("a:b")]) is not None


def test_the_user_ends_at_the_first_colon() -> None:
    credentials = parse_basic([f"Basic {token('user:pass:word:')}"])
    assert credentials is not None
    assert (credentials.user, credentials.password) == ("user", "pass:word:")


def test_neither_the_password_nor_its_encoding_is_shown() -> None:
    assert "secret" not in repr(parse_basic([f"Basic {token('user:secret')}"]))
    assert token("user:secret") not in repr(parse_basic([f"Basic {token('user:secret')}"]))


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Basic"],
        ["Basic "],
        [token("a:b")],
        [f"Basic{token('a:b')}"],
        [f"Bearer {token('a:b')}"],
        [f"Basic\t{token('a:b')}"],
        [f"Basic {token('a:b')} "],
        [f"Basic {token('a:b')}, Basic {token('a:b')}"],
        [f"Basic {token('a:b')}"] * 2,
        [f"Basic {token('ab')}"],
        ["Basic YTpi\nYTpi"],
        ["Basic YTpiYw"],
        ["Basic YTpiYw="],
        ["Basic YTpiYx=="],
        ["Basic YTpiYw==="],
        ["Basic YTpiY==="],
        ["Basic YTpi_-8="],
        [f"Basic {b64encode(b'a:' + bytes([0xFF])).decode()}"],
        [f"Basic {token('a:' + chr(0))}"],
        [f"Basic {token('a' + chr(10) + ':b')}"],
        [f"Basic {token('a:b' + chr(127))}"],
    ],
)
def test_what_is_not_exactly_basic_is_malformed(values: list[str]) -> None:
    assert parse_basic(values) is None
