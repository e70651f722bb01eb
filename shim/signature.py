"""Whether a request was signed by who knows a secret of its channel, as Twilio signs webhooks. Pure.

`X-Twilio-Signature` is the base64 of an HMAC over the URL that is entered at Twilio, followed by the name and value of
each parameter, decoded, in the order of the names, with nothing in between; what is repeated counts once. The key is
the account's auth token, with SHA-1, unless `X-Twilio-Webhooks-Signature-Settings: key=ID,algorithm=HMAC_SHA256` names
a shared key. (Twilio: "Secure webhooks", "Sign webhooks with shared keys"; checked against its own library.)
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # with it come all translators, and the code that is generated
    from shim.translation.forms import Form

SIGNATURE_HEADER = "X-Twilio-Signature"
SETTINGS_HEADER = "X-Twilio-Webhooks-Signature-Settings"

_HASHES = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


class SignatureCheck(StrEnum):
    """What a channel wants of its callers' signatures."""

    OFF = "off"
    OBSERVE = "observe"
    """Whoever can't sign is let in, counted and shown."""
    ENFORCE = "enforce"


class SecretKind(StrEnum):
    """What a secret is at Twilio."""

    AUTH_TOKEN = "auth_token"  # noqa: S105 - the name of a kind
    SHARED_KEY = "shared_key"


class Verdict(StrEnum):
    """What a check found."""

    VALID = "valid"
    MISSING = "missing"
    MISMATCH = "mismatch"
    NO_SECRET = "no_secret"  # noqa: S105 - the name of a verdict
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    UNCHECKABLE = "uncheckable"
    """A fault of ours: this host lacks what it takes."""

    @property
    def explanation(self) -> str:
        """What is wrong, for an operator."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Verdict.VALID: "is right",
    Verdict.MISSING: "is missing, or there is more than one",
    Verdict.MISMATCH: "is not what the channel's secrets make of this request at the public URL",
    Verdict.NO_SECRET: "was made with a kind of secret that the channel has none of",
    Verdict.UNSUPPORTED: "was made with an algorithm that is not known here",
    Verdict.UNREADABLE: "can't be checked: the form can't be read",
    Verdict.UNCHECKABLE: "can't be checked by this shim",
}


@dataclass(frozen=True, slots=True)
class Secret:
    """What requests may be signed with."""

    kind: SecretKind
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """How often checks on a channel found the same, and when last (seconds since 1970)."""

    channel_config_id: str
    verdict: Verdict
    count: int
    last_at: float


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature is about. `target` is path and query as received; without a `form`, it couldn't be read."""

    target: str
    headers: Iterable[tuple[str, str]]
    form: Form | None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A signature, and how its caller says that it was made."""

    signature: str
    hash_name: str
    kind: SecretKind


def check(request: SignedRequest, secrets: Sequence[Secret], bases: Sequence[str]) -> Verdict:
    """Check a signature in constant time with every secret of its kind. `bases`: see `public_url.parse_public_url`."""
    claim = _read_claim(request.headers)
    if isinstance(claim, Verdict):
        return claim
    if request.form is None:
        return Verdict.UNREADABLE
    usable = [secret.value for secret in secrets if secret.kind is claim.kind]
    if not usable:
        return Verdict.NO_SECRET
    signed = [text_to_sign(base + request.target, request.form) for base in bases]
    found = claim.signature.encode()
    # Every one of them, so that the time doesn't tell which matched.
    matches = [hmac.compare_digest(found, _sign(value, text, claim.hash_name)) for value in usable for text in signed]
    return Verdict.VALID if any(matches) else Verdict.MISMATCH


def sign(secret: Secret, url: str, form: Form, *, key_id: str = "") -> dict[str, str]:
    """Return the headers that Twilio would sign a request with: SHA-1 by auth token, SHA-256 by shared key."""
    is_shared = secret.kind is SecretKind.SHARED_KEY
    algorithm = "HMAC_SHA256" if is_shared else "HMAC_SHA1"
    signature = _sign(secret.value, text_to_sign(url, form), _HASHES[algorithm]).decode("ascii")
    settings = {SETTINGS_HEADER: f"key={key_id},algorithm={algorithm}"} if is_shared else {}
    return {SIGNATURE_HEADER: signature, **settings}


def text_to_sign(url: str, form: Form) -> bytes:
    """Return what a signature is computed over. The order of code points is that of their bytes in UTF-8."""
    return "".join((url, *(name + value for name, value in sorted(set(form))))).encode()


def _read_claim(headers: Iterable[tuple[str, str]]) -> _Claim | Verdict:
    values: dict[str, list[str]] = {SIGNATURE_HEADER.lower(): [], SETTINGS_HEADER.lower(): []}
    for name, value in headers:
        if (known := values.get(name.lower())) is not None:
            known.append(value)
    signatures, settings = values.values()
    if len(signatures) != 1 or len(settings) > 1 or not signatures[0]:
        return Verdict.MISSING
    named = dict(_read_setting(setting) for setting in settings[0].split(",")) if settings else {}
    hash_name = _HASHES.get(named.get("algorithm", "").upper() or "HMAC_SHA1")
    if hash_name is None:
        return Verdict.UNSUPPORTED
    # Auth tokens are used with SHA-1 alone, and nothing names them.
    is_shared = bool(named.get("key")) or hash_name != "sha1"
    return _Claim(signatures[0], hash_name, SecretKind.SHARED_KEY if is_shared else SecretKind.AUTH_TOKEN)


def _read_setting(setting: str) -> tuple[str, str]:
    name, _, value = setting.partition("=")
    return name.strip(), value.strip()


def _sign(secret: bytes, text: bytes, hash_name: str) -> bytes:
    return b64encode(hmac.digest(secret, text, hash_name))
