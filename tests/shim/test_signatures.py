"""Signatures on the public port: off, observed, enforced; what is refused, what is counted, what is told."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry

from shim.channel import Channel
from shim.errors import StartError
from shim.flags import parse_target
from shim.link import Link
from shim.metrics import SignatureMetrics
from shim.signature import (
    SETTINGS_HEADER,
    SIGNATURE_HEADER,
    Secret,
    SecretKind,
    SignatureCheck,
    SignedRequest,
    Verdict,
    sign,
)
from shim.signatures import Signatures
from tests.shim.caller import FORM, PATH, basic
from tests.shim.fake_service import FakeService, make_replica
from tests.shim.running import Events, OpenShim, RunningShim

PUBLIC_URL = "https://mo.example.com"
RAW_KEY = Fernet.generate_key()
KEY = Fernet(RAW_KEY)
TOKEN = Secret(SecretKind.AUTH_TOKEN, b"0123456789abcdef0123456789abcdef")
SHARED = Secret(SecretKind.SHARED_KEY, b"a-shared-key-of-the-account")
OTHER = Secret(SecretKind.AUTH_TOKEN, b"fedcba9876543210fedcba9876543210")
KINDS = {
    SecretKind.AUTH_TOKEN: pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN,
    SecretKind.SHARED_KEY: pb.SIGNATURE_SECRET_KIND_SHARED_KEY,
}
ENFORCED, OBSERVED = pb.SIGNATURE_CHECK_ENFORCE, pb.SIGNATURE_CHECK_OBSERVE
WRONG = ((SIGNATURE_HEADER, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),)


def seal(*secrets: Secret, key: Fernet = KEY) -> list[pb.SealedSecret]:
    return [pb.SealedSecret(kind=KINDS[secret.kind], sealed=key.encrypt(secret.value)) for secret in secrets]


def signed(
    secret: Secret = TOKEN, form: dict[str, str] = FORM, *, url: str = PUBLIC_URL + PATH
) -> tuple[tuple[str, str], ...]:
    return tuple(sign(secret, url, list(form.items()), key_id="webhooks_sharedkey_01").items())


def write_key(path: Path, *keys: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(b"\n".join(keys))
    return path


@dataclass(frozen=True)
class Signing:
    """Opens a shim for a channel that checks signatures."""

    open_shim_with: OpenShim
    service: FakeService
    key_path: Path

    @asynccontextmanager
    async def __call__(
        self,
        check: pb.SignatureCheck.ValueType = ENFORCED,
        secrets: Sequence[pb.SealedSecret] | None = None,
        **changes: Any,
    ) -> AsyncIterator[RunningShim]:
        sealed = seal(TOKEN, SHARED) if secrets is None else secrets
        self.service.add(make_replica("C1", signature_check=check, signature_secrets=sealed))
        ours = {"public_urls": (PUBLIC_URL,), "secrets_key": self.key_path}
        async with self.open_shim_with(**ours | changes) as shim:
            yield shim


@pytest.fixture
def signing(open_shim_with: OpenShim, service: FakeService, tmp_path: Path) -> Signing:
    return Signing(open_shim_with, service, write_key(tmp_path / "secrets.key", RAW_KEY))


async def test_what_is_signed_is_taken_with_the_auth_token_and_with_a_shared_key(signing: Signing) -> None:
    async with signing() as shim:
        for number, secret in enumerate((TOKEN, SHARED)):
            form = FORM | {"MessageSid": f"SM{number}", "Body": "Ünïcode & more"}
            assert (await shim.post(form, headers=signed(secret, form))).status == 204
        assert await shim.metric("mo_signatures_total", check="enforce", result="valid") == 2


@pytest.mark.parametrize(
    "base", ["https://mo.example.com", "https://mo.example.com:443", "https://fallback.example.com:8443/below"]
)
async def test_a_signature_is_for_a_configured_url_with_the_path_and_query_as_received(
    signing: Signing, base: str
) -> None:
    target = PATH + "?a=%2F&b"
    async with signing(public_urls=(PUBLIC_URL, "https://fallback.example.com:8443/below")) as shim:
        headers = signed(url=base + target)
        assert (await shim.post(path=target, headers=headers)).status == 204
        assert (await shim.post(path=PATH, headers=headers)).status == 403


async def test_host_and_forwarded_headers_change_nothing(signing: Signing) -> None:
    pretended = (("X-Forwarded-Host", "evil.example.com"), ("X-Forwarded-Proto", "http"))
    async with signing() as shim:
        assert (await shim.post(headers=(*signed(), *pretended))).status == 204
        forged = signed(url="http://evil.example.com" + PATH)
        assert (await shim.post(headers=(*forged, *pretended))).status == 403
        forged = signed(url=f"http://{shim.listen}{PATH}")
        assert (await shim.post(headers=forged)).status == 403


REFUSED: dict[str, tuple[Verdict, dict[str, Any]]] = {
    "no signature": (Verdict.MISSING, {}),
    "a wrong signature": (Verdict.MISMATCH, {"headers": WRONG}),
    "another form": (Verdict.MISMATCH, {"headers": signed(form=FORM | {"Body": "other"})}),
    "an unknown algorithm": (Verdict.UNSUPPORTED, {"headers": (*WRONG, (SETTINGS_HEADER, "key=k,algorithm=MD5"))}),
    "a form that is not UTF-8": (Verdict.UNREADABLE, {"body": b"From=%ff", "headers": WRONG}),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_enforced_signature_that_is_wrong_is_refused_and_kept_in_quarantine(
    signing: Signing, case: str
) -> None:
    verdict, changes = REFUSED[case]
    async with signing() as shim:
        response = await shim.post(**changes)

        assert response.status == 403
        assert "signature" in response.problem["detail"]
        assert await shim.metric("mo_signatures_total", check="enforce", result=verdict.value) == 1
        await shim.service.quarantine_changed.wait()
    assert signing.service.messages == []
    (kept,) = signing.service.quarantined.values()
    (reason,) = kept.reasons
    assert (reason.field, reason.description) == (SIGNATURE_HEADER, verdict.explanation)
    assert kept.body == changes.get("body", urlencode(FORM).encode())
    assert "Authorization" not in {header.name for header in kept.headers}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_observed_signature_that_is_wrong_is_let_in_and_counted_with_its_reason(
    signing: Signing, case: str
) -> None:
    verdict, changes = REFUSED[case]
    async with signing(OBSERVED) as shim:
        response = await shim.post(**changes)

        assert response.status == (400 if "body" in changes else 204)
        assert await shim.metric("mo_signatures_total", check="observe", result=verdict.value) == 1
    (line,) = [event for event in map(json.loads, shim.events.lines) if event["event"].startswith("signatures_")]
    assert (line["event"], line["level"]) == ("signatures_would_be_refused", "warning")
    assert (line["channel"], line["reason"], line["requests"]) == ("C1", verdict.value, 1)


async def test_a_channel_that_looks_at_no_signature_takes_a_wrong_one(signing: Signing) -> None:
    async with signing(pb.SIGNATURE_CHECK_OFF) as shim:
        assert (await shim.post(headers=WRONG)).status == 204
    assert signing.service.signatures == []


async def test_credentials_come_before_the_signature_and_so_does_a_disabled_channel(signing: Signing) -> None:
    async with signing() as shim:
        assert (await shim.post(headers=signed(), authorization=basic(password="wrong"))).status == 401
        assert (await shim.post(headers=WRONG, authorization=None)).status == 401
        disabled = make_replica("C2", state=pb.CHANNEL_STATE_DISABLED, signature_check=ENFORCED)
        await shim.service.put(disabled)
        assert (await shim.post(path=PATH[:-1] + "2", headers=WRONG)).problem["detail"].startswith("This channel is")
        assert await shim.metric("mo_signatures_total", check="enforce", result="mismatch") == 0


async def test_a_wrong_signature_comes_before_what_is_in_the_form(signing: Signing) -> None:
    status_callback = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    async with signing() as shim:
        assert (await shim.post(status_callback, headers=WRONG)).status == 403
        assert (await shim.post(status_callback, headers=signed(form=status_callback))).status == 204
        assert (await shim.post({}, headers=WRONG)).status == 403
        assert (await shim.post({}, headers=signed(form={}))).status == 400


LACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "no public URL": ("--public-url", {"public_urls": ()}),
    "no key file": ("--secrets-key", {"secrets_key": None}),
    "another key": ("--secrets-key", {"secrets": seal(TOKEN, key=Fernet(Fernet.generate_key()))}),
}


@pytest.mark.parametrize("case", LACKS)
async def test_what_this_shim_cannot_check_is_its_own_fault_and_said_so(signing: Signing, case: str) -> None:
    told, changes = LACKS[case]
    async with signing(**changes) as shim:
        response = await shim.post(headers=signed())

        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        _, ready = await shim.readiness()
        (reason,) = ready["reasons"]
        assert (ready["status"], reason["reason"]) == ("degraded", "signatures_uncheckable")
        assert told in reason["detail"]
        assert await shim.metric("mo_signatures_total", check="enforce", result="uncheckable") == 1
    assert signing.service.quarantined == {}


@pytest.mark.parametrize("case", LACKS)
async def test_what_this_shim_cannot_check_is_let_in_while_it_is_only_observed(signing: Signing, case: str) -> None:
    _, changes = LACKS[case]
    async with signing(OBSERVED, **changes) as shim:
        assert (await shim.post(headers=signed())).status == 204


async def test_a_secret_that_this_shim_cannot_open_does_not_stand_in_the_way_of_others(signing: Signing) -> None:
    mixed = [*seal(OTHER, key=Fernet(Fernet.generate_key())), *seal(TOKEN)]
    async with signing(secrets=mixed) as shim:
        assert (await shim.post(headers=signed())).status == 204
        assert (await shim.post(headers=())).status == 403
        assert (await shim.post(headers=signed(OTHER))).status == 503


async def test_secrets_are_replaced_while_requests_go_on(signing: Signing) -> None:
    async with signing(secrets=seal(TOKEN)) as shim:
        assert (await shim.post(headers=signed(OTHER))).status == 403
        for sealed in (seal(TOKEN, OTHER), seal(OTHER)):
            before = await shim.metric("mo_replica_changes_total")
            await shim.service.put(make_replica("C1", signature_check=ENFORCED, signature_secrets=sealed))
            while await shim.metric("mo_replica_changes_total") == before:
                pass
            assert (await shim.post(headers=signed(OTHER))).status == 204
        assert (await shim.post(headers=signed(TOKEN))).status == 403


async def test_a_key_is_replaced_while_requests_go_on(signing: Signing) -> None:
    newer = Fernet.generate_key()
    async with signing(secrets=seal(TOKEN, key=Fernet(newer))) as shim:
        assert (await shim.post(headers=signed())).status == 503
        write_key(signing.key_path, newer, RAW_KEY)
        assert (await shim.post(headers=signed())).status == 204


async def test_signatures_are_checked_with_the_service_away_after_a_restart_too(signing: Signing) -> None:
    async with signing():
        pass
    await signing.service.stop()
    async with signing(is_ready=False) as shim:
        assert (await shim.post(headers=WRONG)).status == 403
        assert (await shim.post(headers=signed())).status == 204
    files = [path.read_bytes() for path in signing.key_path.parent.rglob("*") if path.is_file()]
    assert not any(TOKEN.value in content for content in files)


async def test_the_service_is_told_what_was_found(signing: Signing) -> None:
    async with signing() as shim:
        for headers in (signed(), signed(), WRONG):
            await shim.post(headers=headers)
    (request,) = signing.service.signatures
    (channel,) = request.channels
    counts = {count.result: count for count in channel.counts}
    assert channel.channel_config_id == "C1"
    assert {result: count.count for result, count in counts.items()} == {
        pb.SIGNATURE_RESULT_VALID: 2,
        pb.SIGNATURE_RESULT_MISMATCH: 1,
    }
    assert counts[pb.SIGNATURE_RESULT_VALID].last_time.seconds > 1_700_000_000


async def test_what_the_service_does_not_take_is_told_the_next_time_and_logged_once(
    service: FakeService, events: Events
) -> None:
    signatures = Signatures(bases=(), key=None, metrics=SignatureMetrics(CollectorRegistry()))
    channel = Channel("C1", "twilio", True, "user", (), 1, False, SignatureCheck.ENFORCE)
    link = Link(parse_target(service.listen))
    for failure in (grpc.StatusCode.UNAVAILABLE, None):
        signatures.find_fault(channel, SignedRequest(PATH, (), []))
        service.signatures_failure = failure
        await signatures.report(link)
    await signatures.report(link)
    await link.close()

    (request,) = service.signatures
    assert [count.count for count in request.channels[0].counts] == [2]
    assert [json.loads(line)["requests"] for line in events.lines] == [1, 1]


async def test_a_bad_key_file_stops_the_start(signing: Signing) -> None:
    write_key(signing.key_path, b"no key")
    with pytest.raises(StartError, match="mo secrets init"):
        async with signing():
            pass
