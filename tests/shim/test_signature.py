"""Signatures as Twilio makes them: its own vectors, its own library as the oracle, and what is refused."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from shim.public_url import parse_public_url
from shim.signature import (
    SETTINGS_HEADER,
    SIGNATURE_HEADER,
    Secret,
    SecretKind,
    SignedRequest,
    Verdict,
    check,
    sign,
)

TOKEN = Secret(SecretKind.AUTH_TOKEN, b"12345")
SHARED = Secret(SecretKind.SHARED_KEY, b"a shared key of the account")
TARGET = "/myapp.php?foo=1&bar=2"
FORM = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
VALID = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
BASES = parse_public_url("https://mycompany.com")
SETTINGS = "key=webhooks_sharedkey_01,algorithm=HMAC_SHA256"


def verdict(
    *,
    headers: Iterable[tuple[str, str]] = ((SIGNATURE_HEADER, VALID),),
    secrets: Sequence[Secret] = (TOKEN,),
    form: Sequence[tuple[str, str]] | None = FORM,
    target: str = TARGET,
    bases: Sequence[str] = BASES,
) -> Verdict:
    return check(SignedRequest(target, headers, form), secrets, bases)


@pytest.mark.parametrize(
    ("public_url", "signature"),
    [
        ("https://mycompany.com", VALID),
        ("https://mycompany.com", "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("https://mycompany.com:443", VALID),
        ("https://mycompany.com:443", "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("http://mycompany.com:1234", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
    ],
)
def test_the_vectors_of_twilios_own_tests_are_right(public_url: str, signature: str) -> None:
    assert verdict(headers=[(SIGNATURE_HEADER, signature)], bases=parse_public_url(public_url)) is Verdict.VALID


WRONG: dict[str, tuple[Verdict, dict[str, Any]]] = {
    "no signature": (Verdict.MISSING, {"headers": ()}),
    "an empty signature": (Verdict.MISSING, {"headers": ((SIGNATURE_HEADER, ""),)}),
    "two signatures": (Verdict.MISSING, {"headers": ((SIGNATURE_HEADER, VALID), (SIGNATURE_HEADER, VALID))}),
    "two settings": (
        Verdict.MISSING,
        {"headers": ((SIGNATURE_HEADER, VALID), (SETTINGS_HEADER, SETTINGS), (SETTINGS_HEADER, SETTINGS))},
    ),
    "another signature": (Verdict.MISMATCH, {"headers": ((SIGNATURE_HEADER, VALID[:-2] + "A="),)}),
    "a signature that is no base64": (Verdict.MISMATCH, {"headers": ((SIGNATURE_HEADER, "é\x00" * 9),)}),
    "another secret": (Verdict.MISMATCH, {"secrets": [Secret(SecretKind.AUTH_TOKEN, b"12346")]}),
    "another query": (Verdict.MISMATCH, {"target": "/myapp.php?foo=1&bar=3"}),
    "another host": (Verdict.MISMATCH, {"bases": parse_public_url("https://mycompany.org")}),
    "plain http": (Verdict.MISMATCH, {"bases": parse_public_url("http://mycompany.com")}),
    "another parameter": (Verdict.MISMATCH, {"form": [*FORM, ("Body", "")]}),
    "no public URL": (Verdict.MISMATCH, {"bases": ()}),
    "no secret": (Verdict.NO_SECRET, {"secrets": []}),
    "a shared key in place of the auth token": (
        Verdict.NO_SECRET,
        {"secrets": [Secret(SecretKind.SHARED_KEY, TOKEN.value)]},
    ),
    "the auth token in place of a shared key": (
        Verdict.NO_SECRET,
        {"headers": ((SIGNATURE_HEADER, VALID), (SETTINGS_HEADER, "key=k,algorithm=HMAC_SHA1"))},
    ),
    "the auth token with SHA-256": (
        Verdict.NO_SECRET,
        {"headers": ((SIGNATURE_HEADER, VALID), (SETTINGS_HEADER, "algorithm=HMAC_SHA256"))},
    ),
    "an unknown algorithm": (
        Verdict.UNSUPPORTED,
        {"headers": ((SIGNATURE_HEADER, VALID), (SETTINGS_HEADER, "key=k,algorithm=HMAC_SHA512"))},
    ),
    "a form that can't be read": (Verdict.UNREADABLE, {"form": None}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_right_is_said_to_be_wrong(case: str) -> None:
    expected, changes = WRONG[case]
    assert verdict(**changes) is expected


def test_any_of_several_secrets_may_have_been_used() -> None:
    old = Secret(SecretKind.AUTH_TOKEN, b"the one before")
    for used in (old, TOKEN, SHARED):
        signed = sign(used, BASES[0] + TARGET, FORM, key_id="k")
        assert verdict(headers=signed.items(), secrets=[old, SHARED, TOKEN]) is Verdict.VALID


def test_header_names_and_the_algorithm_have_no_case_and_settings_may_have_spaces() -> None:
    signature = sign(SHARED, BASES[0] + TARGET, FORM)[SIGNATURE_HEADER]
    headers = (
        (SIGNATURE_HEADER.lower(), signature),
        (SETTINGS_HEADER.upper(), " algorithm = hmac_sha256 , key = k, later = 1"),
    )
    assert verdict(headers=headers, secrets=[SHARED]) is Verdict.VALID


def test_a_shared_key_may_sign_with_sha_1_too_when_the_settings_say_so() -> None:
    as_token = sign(Secret(SecretKind.AUTH_TOKEN, SHARED.value), BASES[0] + TARGET, FORM)
    assert verdict(headers=[*as_token.items(), (SETTINGS_HEADER, "key=k")], secrets=[SHARED]) is Verdict.VALID


class Parameters:
    """A form with repeated names, as web frameworks hand it to Twilio's library."""

    def __init__(self, form: Sequence[tuple[str, str]]) -> None:
        self._form = form

    def __iter__(self) -> object:
        return iter(name for name, _ in self._form)

    def __len__(self) -> int:
        return len(self._form)

    def getall(self, name: str) -> list[str]:
        return [value for known, value in self._form if known == name]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.one_of(st.sampled_from(["From", "To", "Body", "a", "B", "Ä", "z", "𐀀", "\uffff"]), TEXTS)
FORMS = st.lists(st.tuples(NAMES, TEXTS), max_size=12)
SECRET_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
PLACES = st.sampled_from(["https://mo.example.com", "http://mo.example.com", "https://mo.example.com:8443"])
QUERIES = st.sampled_from(["", "?a=1", "?a=1&b=%20%2f", "?"])


@given(form=FORMS, value=SECRET_VALUES, place=PLACES, query=QUERIES)
@example(form=[("a", ""), ("a", ""), ("a", "b"), ("ab", "")], value="12345", place="https://mo.example.com", query="")
def test_twilios_library_and_we_agree_on_every_form(
    form: list[tuple[str, str]], value: str, place: str, query: str
) -> None:
    oracle = RequestValidator(value)
    target = f"/social/on/whatsapp/twilio/message/C1{query}"
    url, parameters = place + target, Parameters(form)
    for kind, algorithm in ((SecretKind.AUTH_TOKEN, "HMAC_SHA1"), (SecretKind.SHARED_KEY, "HMAC_SHA256")):
        secret = Secret(kind, value.encode())
        expected = oracle.compute_signature(url, parameters, algorithm)
        headers = sign(secret, url, form, key_id="k")
        assert headers[SIGNATURE_HEADER] == expected
        assert verdict(
            headers=headers.items(), secrets=[secret], form=form, target=target, bases=parse_public_url(place)
        ) is (Verdict.VALID)


@given(
    form=st.lists(st.tuples(NAMES, TEXTS), max_size=6),
    other=st.lists(st.tuples(NAMES, TEXTS), max_size=6),
    place=PLACES,
)
def test_what_twilios_library_refuses_we_refuse(
    form: list[tuple[str, str]], other: list[tuple[str, str]], place: str
) -> None:
    target = "/social/on/whatsapp/twilio/message/C1"
    headers = sign(TOKEN, place + target, form)
    is_valid = RequestValidator("12345").validate(place + target, Parameters(other), headers[SIGNATURE_HEADER])
    found = verdict(headers=headers.items(), form=other, target=target, bases=parse_public_url(place))
    assert (found is Verdict.VALID) is is_valid


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("https://mo.example.com", ("https://mo.example.com", "https://mo.example.com:443")),
        ("https://mo.example.com/", ("https://mo.example.com", "https://mo.example.com:443")),
        ("http://mo.example.com:8080", ("http://mo.example.com", "http://mo.example.com:8080")),
        ("https://mo.example.com/below/", ("https://mo.example.com/below", "https://mo.example.com:443/below")),
        ("https://[::1]:8443", ("https://[::1]", "https://[::1]:8443")),
    ],
)
def test_a_public_url_is_tried_without_and_with_its_port(text: str, bases: tuple[str, str]) -> None:
    assert parse_public_url(text) == bases


@pytest.mark.parametrize(
    "text",
    [
        *("", "mo.example.com", "ftp://mo.example.com", "https://", "https://mo.example.com:x"),
        *("https://user:password@mo.example.com", "https://mo.example.com?a=1", "https://mo.example.com#rc=2"),
        *("https://mö.example.com", "https://mo.example.com\n"),
    ],
)
def test_what_is_no_public_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"https://HOST|no user, query"):
        parse_public_url(text)
