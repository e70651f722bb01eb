"""What fuzzing begins with: inputs that get far already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.shim.caller import basic
from tests.shim.hostile_cases import AUTHORIZATIONS, CASES

_PAYLOADS = json.loads((Path(__file__).parent.parent / "fixtures" / "twilio-payloads.json").read_text("utf-8"))
_CASES = [case.sent for case in CASES.values()]


def _to_head(request: bytes) -> bytes:
    """Write the head of a request as `targets.read_any_head` takes it: method, path and headers on lines."""
    method, path, _ = (request + b"   ").split(b" ", 2)
    return b"\n".join([method, path, *request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]])


SEEDS: Mapping[str, Sequence[bytes]] = {
    "form": [payload["wire"].encode() for payload in _PAYLOADS],
    "head": [_to_head(case) for case in _CASES],
    "authorization": [value.encode("latin-1") for value in (basic(), *AUTHORIZATIONS.values())],
    "port": _CASES,
}
"""For each target."""
