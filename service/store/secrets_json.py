"""The sealed secrets of a channel as the JSON text that every database keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence

from service.models import SecretKind, SignatureSecret


def dump_secrets(secrets: Sequence[SignatureSecret]) -> str:
    """Return secrets as JSON; what is sealed is text already."""
    return json.dumps(
        [
            {"id": secret.secret_id, "kind": secret.kind, "created_at": secret.created_at, "sealed": _text_of(secret)}
            for secret in secrets
        ]
    )


def load_secrets(text: str) -> tuple[SignatureSecret, ...]:
    """Read what `dump_secrets` wrote."""
    return tuple(
        SignatureSecret(item["id"], SecretKind(item["kind"]), item["created_at"], item["sealed"].encode("ascii"))
        for item in json.loads(text)
    )


def _text_of(secret: SignatureSecret) -> str:
    return secret.sealed.decode("ascii")
