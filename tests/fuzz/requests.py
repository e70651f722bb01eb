"""Requests that are nearly right: each part is as it should be, or one of the ways in which it should not."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.shim.caller import PATH, basic
from tests.shim.hostile_cases import AUTHORIZATIONS, BODY, CASES

_METHODS = st.sampled_from(["POST"] * 4 + ["GET", "HEAD", "post", "", "P\0ST", "OPTIONS"])
_PATHS = st.sampled_from(
    [PATH] * 4 + ["/", "*", PATH + "?a=b", "http://shim" + PATH, PATH + "0", PATH + "%00", "\xff", ""]
)
_VERSIONS = st.sampled_from(["HTTP/1.1"] * 4 + ["HTTP/1.0", "HTTP/1.9", "HTTP/2.0", "http/1.1", ""])
_HEADERS = st.sampled_from(
    [
        "Host: shim",
        "Content-Type: application/x-www-form-urlencoded",
        f"Authorization: {basic()}",
        "Authorization: " + basic(password="wrong"),
        f"Content-Length: {len(BODY)}",
        "Content-Length: 5",
        "Content-Length: 99999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Content-Encoding: gzip",
        "Connection: close",
        "Connection: keep-alive, Upgrade",
        "Expect: 100-continue",
        "X-Forwarded-For: 1.2.3.4",
        "Folded: a\r\n b",
        "No colon",
        ": no name",
        "Nul: \0",
        *(f"Authorization: {value}" for value in AUTHORIZATIONS.values()),
    ]
)
_BODIES = st.one_of(
    st.just(BODY.encode()),
    st.just(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY.encode())),
    st.sampled_from([b"0\r\n\r\n", b"5\r\na=b&c\r\n", b"-1\r\n", b"fffffffff\r\n", b"", b"&" * 1_000, b"%" * 100]),
    st.binary(max_size=300),
)
_LINE_ENDS = st.sampled_from(["\r\n"] * 6 + ["\n", "\r", "\n\r"])


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    line = f"{draw(_METHODS)} {draw(_PATHS)} {draw(_VERSIONS)}"
    usual = ["Host: shim", f"Authorization: {basic()}", "Content-Type: application/x-www-form-urlencoded"]
    headers = (usual if draw(st.booleans()) else []) + draw(st.lists(_HEADERS, max_size=6))
    end = draw(_LINE_ENDS)
    return end.join([line, *headers, "", ""]).encode("latin-1") + draw(_BODIES)


@st.composite
def _damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Put something else in the place of a piece."""
    sent = draw(whole)
    start = draw(st.integers(0, len(sent)))
    end = draw(st.integers(start, min(len(sent), start + 20)))
    return sent[:start] + draw(st.binary(max_size=20)) + sent[end:]


ANY_BYTES = st.binary(max_size=2_000)
CASE = st.sampled_from([case.sent for case in CASES.values()])
REQUESTS = st.one_of(
    st.lists(_requests(), min_size=1, max_size=4).map(b"".join), _damaged(_requests()), _damaged(CASE), ANY_BYTES
)
_NAMES = st.sampled_from(
    [
        *("From", "To", "MessageSid", "MessageType", "Body", "MediaUrl0", "MediaContentType0", "MediaUrl1"),
        *("Latitude", "Forwarded", "ButtonText", "MessageStatus", "SmsStatus", "OriginalRepliedMessageSid", "", "x"),
    ]
)
_VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["true", "false", "received", "text", "IMAGE", "%00", "%zz", "%ff", "+", "=", "x" * 300, "\\x41"]),
)
FORMS = st.one_of(
    st.lists(st.tuples(_NAMES, _VALUES), max_size=30).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "replace")
    ),
    _damaged(st.just(BODY.encode())),
    ANY_BYTES,
)
HEADS = st.one_of(
    st.tuples(_METHODS, _PATHS, st.lists(_HEADERS, max_size=8)).map(
        lambda parts: "\n".join([parts[0], parts[1], *parts[2]]).encode("latin-1")
    ),
    ANY_BYTES,
)
AUTHORIZATION_HEADERS = st.one_of(
    st.sampled_from([value.encode("latin-1") for value in AUTHORIZATIONS.values()]),
    st.binary(max_size=60).map(lambda token: b"Basic " + token),
    _damaged(st.just(basic().encode())),
)
