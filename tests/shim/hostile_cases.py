"""What hostile callers send, and the only answer that is correct to each."""

import gzip
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.shim.caller import FORM, PATH, basic, encode_request

HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: shim\r\nAuthorization: {basic()}\r\nContent-Type: application/x-www-form-urlencoded"
)
BODY = "&".join(f"{name}={value}" for name, value in FORM.items())
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: shim\r\nContent-Length: {len(BODY)}\r\n\r\n"
FORM_OF_10_000 = "&".join(f"p{number}=x" for number in range(10_000))


@dataclass(frozen=True)
class Case:
    """What is sent, what is answered in this order, and whether the connection ends then."""

    sent: bytes
    statuses: Sequence[int]
    closes: bool


def framed(*headers: str, body: str = BODY) -> bytes:
    return "\r\n".join([HEAD, *headers, "", body]).encode("latin-1")


def refused(*headers: str, body: str = BODY) -> Case:
    return Case(framed(*headers, body=body), [400], closes=True)


def chunked(body: str) -> Case:
    return refused("Transfer-Encoding: chunked", body=body)


def raw(sent: bytes, *statuses: int, closes: bool = True) -> Case:
    return Case(sent, statuses, closes=closes)


def answered(status: int, body: bytes | str = BODY, *, closes: bool = False, **parts: Any) -> Case:
    return Case(encode_request(body, **parts), [status], closes=closes)


def at(path: str, status: int = 404) -> Case:
    return answered(status, path=path)


def ignored(body: str) -> Case:
    """What is no form of ours, in chunks that are as they should be."""
    return Case(framed("Transfer-Encoding: chunked", body=body), [400], closes=False)


LENGTH = f"Content-Length: {len(BODY)}"
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "h2c"))
FRAMING = {
    "both lengths": refused(LENGTH, "Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED),
    "both, the other way round": refused("Transfer-Encoding: chunked", "Content-Length: 4", body="5c\r\n" + SMUGGLED),
    "two lengths": refused(LENGTH, "Content-Length: 0"),
    "the same length twice": refused(LENGTH, LENGTH),
    "a list of lengths": refused(f"Content-Length: {len(BODY)}, {len(BODY)}"),
    "a list of different lengths": refused(f"Content-Length: {len(BODY)}, 0"),
    "a length with a sign": refused(f"Content-Length: +{len(BODY)}"),
    "a negative length": refused("Content-Length: -1"),
    "a hexadecimal length": refused("Content-Length: 0x10"),
    "a length with an exponent": refused("Content-Length: 1e1"),
    "a length with an underscore": refused("Content-Length: 1_0"),
    "a length with a fraction": refused("Content-Length: 1.0"),
    "two lengths after a blank": refused("Content-Length: 1 0"),
    "a length that overflows": raw(framed("Content-Length: 18446744073709551617"), 413),
    "a length of 5,000 digits": raw(framed("Content-Length: " + "9" * 5_000), 413),
    "an empty length": refused("Content-Length:"),
    "a length of other digits": refused("Content-Length: \xb2"),
    "a length before a blank": refused("Content-Length : 0"),
    "a coding before a blank": refused("Transfer-Encoding : chunked", body="0\r\n\r\n"),
    "a coding that is none": refused("Transfer-Encoding: xchunked", body="0\r\n\r\n"),
    "identity as a coding": refused("Transfer-Encoding: identity", LENGTH),
    "two codings": refused("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
    "chunked twice": refused("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "identity and chunked": refused("Transfer-Encoding: identity, chunked", body="0\r\n\r\n"),
    "chunked and identity": refused("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"),
    "chunked and nothing": refused("Transfer-Encoding: chunked,", body="0\r\n\r\n"),
    "chunked with a parameter": refused("Transfer-Encoding: chunked;q=1", body="0\r\n\r\n"),
    "chunked in quotes": refused('Transfer-Encoding: "chunked"', body="0\r\n\r\n"),
    "an empty coding": refused("Transfer-Encoding:", LENGTH),
    "a coding in HTTP/1.2": raw(encode_request(is_chunked=True, version="HTTP/1.2"), 400),
    "chunked after a vertical tab": refused("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"),
    "a coding in HTTP/1.0": raw(encode_request(is_chunked=True, version="HTTP/1.0"), 400),
    "a folded header": refused("X-Folded: a\r\n b", LENGTH),
    "a folded coding": refused("Transfer-Encoding:\r\n chunked", body="0\r\n\r\n"),
    "a header without a colon": refused("nonsense", LENGTH),
    "a header without a name": refused(": nobody", LENGTH),
    "a NUL in a length": refused(f"{LENGTH}\0"),
    "a NUL in a coding": refused("Transfer-Encoding: chunked\0", body="0\r\n\r\n"),
    "a NUL in a name": refused("X-\0Nul: a", LENGTH),
    "a folded length": refused("Content-Length:\r\n 0"),
    "a fold before any header": raw(framed(LENGTH).replace(b"Host:", b" Host:"), 400),
    "a NUL in a header": refused("X-Nul: a\0b", LENGTH),
    "a bare CR in a header": refused("X-Cr: a\rTransfer-Encoding: chunked", LENGTH),
    "a bare CR in a value that ends": refused("X-Cr: a\r", LENGTH),
    "a CR more after the request line": raw(framed(LENGTH).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\r\n"), 400),
    "a bare CR before the request line": raw(b"\r" + framed(LENGTH), 400),
    "a bare LF before the request line": raw(b"\n" + framed(LENGTH), 400),
    "a bare LF in a header": refused("X-Lf: a\nTransfer-Encoding: chunked", LENGTH),
    "a bare LF after the request line": raw(framed(LENGTH).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), 400),
    "a bare LF after the head": raw(f"{HEAD}\r\n{LENGTH}\r\n\n{BODY}".encode(), 400),
    "bare LFs alone": raw(framed(LENGTH).replace(b"\r\n", b"\n"), 400),
    "bare LFs alone in HTTP/1.0": raw(f"GET {PATH} HTTP/1.0\n\n".encode(), 400),
    "a chunk size before a bare LF": chunked("1\na\r\n0\r\n\r\n"),
    "a chunk before a bare LF": chunked("1\r\na\n0\r\n\r\n"),
    "a last chunk before a bare LF": chunked("0\r\n\n\n"),
    "a chunk size with a sign": chunked("+1\r\na\r\n0\r\n\r\n"),
    "a chunk size with an underscore": chunked("1_0\r\n" + "a" * 16 + "\r\n0\r\n\r\n"),
    "a chunk size of 2**64 + 1": chunked("10000000000000001\r\na\r\n0\r\n\r\n"),
    "two hosts": refused("Host: elsewhere", LENGTH),
    "no host": raw(framed(LENGTH).replace(b"Host: shim\r\n", b""), 400),
    "a chunk of no size": chunked("zz\r\n"),
    "a chunk of negative size": chunked("-1\r\n"),
    "a chunk size with a prefix": chunked("0x1\r\na\r\n0\r\n\r\n"),
    "a chunk size before a blank": chunked("1 \r\na\r\n0\r\n\r\n"),
    "a chunk longer than said": chunked("1\r\nab\r\n0\r\n\r\n"),
    "a chunk size that goes on": chunked("1" * 100),
    "trailers": chunked("1\r\na\r\n0\r\nX-Trailer: a\r\n\r\n"),
    "no request line": raw(b"nonsense\r\n\r\n", 400),
    "no version": raw(f"POST {PATH}\r\n\r\n".encode(), 400),
    "another version": raw(f"POST {PATH} HTTP/3.0\r\n\r\n".encode(), 400),
    "HTTP/2": raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "too many words": raw(f"POST {PATH} HTTP/1.1 now\r\n\r\n".encode(), 400),
    "a blank before the method": raw(b" " + framed(LENGTH), 400),
    "NULs": raw(bytes(100) + b"\r\n\r\n", 400),
    "a TLS handshake": raw(bytes.fromhex("16030100700100006c0303") + bytes(100) + b"\r\n\r\n", 400),
    "a header of 20,000 bytes": raw(framed("X-Long: " + "x" * 20_000), 431),
    "a target of 20,000 bytes": raw(encode_request(BODY, path=PATH + "x" * 20_000), 431),
    "20,000 bytes of empty lines": raw(b"\r\n" * 10_000, 431),
    "101 headers": raw(framed(*(f"X-{number}: x" for number in range(98))), 431),
    "5,000 headers": raw(framed(*(f"X-{number}: x" for number in range(5_000))), 431),
    "a method in lower case": raw(encode_request(BODY, method="post"), 400),
    "a method that nobody knows": raw(encode_request(BODY, method="BREW"), 400),
    "a target without a path": raw(encode_request(BODY, path="shim:443"), 400),
    "a backslash": raw(encode_request(BODY, path=PATH.replace("/", "\\")), 400),
}
CONTENTS = {
    "a form that is not UTF-8": answered(400, BODY.encode() + b"&Body=\xff\xfe"),
    "an escape that is not UTF-8": answered(400, BODY + "&Body=%ED%A0%80"),
    "a NUL in the text": answered(204, BODY + "&Body=a%00b"),
    "a NUL in the sender": answered(400, urlencode(FORM | {"From": "a\0b"})),
    "escapes that are none": answered(204, BODY + "&Body=%&%zz=%1&%%%=%u0041"),
    "10,000 parameters": answered(400, FORM_OF_10_000),
    "10,000 empty parameters": answered(204, BODY + "&" * 10_000),
    "10,000 times the same parameter": answered(400, BODY + "&Body=x" * 10_000),
    "nothing": answered(400, ""),
    "a compressed body that says so": answered(
        415, gzip.compress(BODY.encode()), headers=(("Content-Encoding", "gzip"),)
    ),
    "a compressed body": answered(400, gzip.compress(BODY.encode())),
    "a form in parts": answered(415, BODY, content_type="multipart/form-data; boundary=x"),
    "a last chunk with an extension": ignored("0;a=b\r\n\r\n"),
    "a chunk with an extension": ignored("1;a=b\r\na\r\n0\r\n\r\n"),
    "a length of 5,000 zeros": Case(framed("Content-Length: " + "0" * 5_000 + str(len(BODY))), [204], closes=False),
    "HTTP/1.0": answered(204, version="HTTP/1.0", closes=True),
    "HTTP/1.0 that is to stay": answered(204, version="HTTP/1.0", headers=(("Connection", "keep-alive"),)),
    "TRACE": answered(405, method="TRACE"),
    "CONNECT": Case(encode_request("", method="CONNECT", path="shim:443"), [404], closes=False),
    "an upgrade before another request": Case(
        encode_request(BODY, headers=UPGRADE) + encode_request(BODY, is_chunked=True, headers=UPGRADE),
        [204, 204],
        closes=False,
    ),
    "the whole server": at("*"),
    "an upgrade": answered(204, headers=UPGRADE),
}
PATHS = {
    "an absolute URI": at("http://shim" + PATH, 204),
    "an absolute URI of another host": at("https://user@elsewhere:1" + PATH, 204),
    "an absolute URI of another scheme": at("ftp://shim" + PATH),
    "an absolute URI without a path": at("http://shim"),
    "a double slash": at("/" + PATH),
    "a double slash within": at(PATH.replace("/message", "//message")),
    "a dot": at("/." + PATH),
    "two dots": at("/x/.." + PATH),
    "a channel called ..": at(PATH[:-2] + "..", 401),
    "two dots after the channel": at(PATH + "/.."),
    "an escaped slash": at(PATH.replace("/message/", "/message%2f")),
    "an escaped letter": at(PATH[:-2] + "%431"),
    "an escaped NUL": at(PATH + "%00"),
    "a semicolon": at(PATH + ";jsessionid=1"),
    "a fragment": at(PATH + "#x"),
    "a query": at(PATH + "?a=../../etc/passwd&b=%00", 204),
    "a very long channel id": at(PATH + "1" * 8_000),
    "a longer channel id than any": at(PATH[:-2] + "1" * 128, 401),
    "one letter more": at(PATH[:-2] + "1" * 129),
    "another integrator": at(PATH.replace("twilio", "TWILIO")),
}
TOKEN = basic()[6:]
AUTHORIZATIONS = {
    "nothing": "",
    "a scheme alone": "Basic",
    "a scheme and blanks": "Basic   ",
    "a token alone": TOKEN,
    "another scheme": "Bearer " + TOKEN,
    "Digest": 'Digest username="mo-user", realm="aicc-mo", uri="/", response="0"',
    "no padding": "Basic " + TOKEN.rstrip("=") + "A",
    "too much padding": f"Basic {TOKEN}=",
    "the URL's alphabet": "Basic _-__",
    "no colon": "Basic " + b64encode(b"nobody").decode(),
    "nothing in it": "Basic " + b64encode(b"").decode(),
    "not UTF-8": "Basic " + b64encode(b"\xff:\xff").decode(),
    "a NUL": "Basic " + b64encode(b"mo-user:\0").decode(),
    "a line end": "Basic " + b64encode(b"mo-user:a\r\nb").decode(),
    "two of them": f"{basic()}, {basic()}",
    "something after it": f"{basic()} x",
    "10,000 letters": "Basic " + "A" * 9_999,
    "bytes that are no letters": "Basic \xff\xfe",
}
CASES: Mapping[str, Case] = (
    FRAMING
    | CONTENTS
    | PATHS
    | {f"credentials: {name}": answered(401, authorization=value) for name, value in AUTHORIZATIONS.items()}
)
