"""Signatures on the public port: off, observed, enforced; what is refused, what is counted, what is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from cryptography.fernet import Fernet

from shim.link import Link
from shim.signature import SETTINGS_HEADER, SIGNATURE_HEADER, Secret, SecretKind, Verdict, sign
from shim.signatures import Signatures
from tests.shim.caller import FORM, PATH, Response, basic
from tests.shim.fake_service import make_replica
from tests.shim.running import OpenShim, RunningShim

PUBLIC_URL = "https://mo.example.com"
KEY = Fernet(Fernet.generate_key())
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


@asynccontextmanager
async def signing_shim(
    open_shim_with: OpenShim,
    tmp_path: Path,
    check: pb.SignatureCheck.ValueType = ENFORCED,
    secrets: list[pb.SealedSecret] | None = None,
    **changes: Any,
) -> AsyncIterator[RunningShim]:
    path = tmp_path / "secrets.key"
    path.touch(mode=0o600)
    path.write_bytes(KEY._signing_key and b"")
    yield  # type: ignore[misc]
