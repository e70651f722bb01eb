"""Whom the audit log names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from service.rpc.actors import actor_of


@dataclass
class Context:
    """What gRPC tells of a call."""

    named: str | None = None
    address: str = "ipv4:192.0.2.7:51234"
    certificate: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self.certificate

    def invocation_metadata(self) -> list[tuple[str, str]] | None:
        return None if self.named is None else [("user-agent", "test"), ("mo-operator", self.named)]

    def peer(self) -> str:
        return self.address


URI, DNS, NAME = b"spiffe://aicc/desk", b"desk.example.com", b"desk"


@pytest.mark.parametrize(
    ("context", "actor"),
    [
        (Context("ann@desk"), "ann@desk"),
        (Context("  Ann Lee "), "Ann Lee"),
        (Context("x" * 200), "x" * 128),
        (Context("ann\r\n\x1b[31m"), "ann[31m"),
        (Context("änn"), "nn"),
        (Context("\t"), "192.0.2.7"),
        (Context(), "192.0.2.7"),
        (Context(address="ipv6:%5B2001:db8::1%5D:51234"), "2001:db8::1"),
        (Context(address="unix:/run/mo.sock"), "/run/mo.sock"),
        (Context(address="unix:"), "unix:"),
        (Context(address=""), "unknown"),
        (Context(certificate={"peer_uri": [URI], "peer_dns": [DNS], "x509_common_name": [NAME]}), URI.decode()),
        (Context(certificate={"peer_dns": [DNS, b"b"], "x509_common_name": [NAME]}), DNS.decode()),
        (Context(certificate={"x509_common_name": [NAME]}), NAME.decode()),
        (Context("ann@desk", certificate={"peer_uri": [URI]}), "spiffe://aicc/desk (calls itself ann@desk)"),
        (Context("ann@desk", certificate={"x509_common_name": [b""]}), "ann@desk"),
    ],
)
def test_an_actor_is_whom_the_certificate_names_else_what_the_caller_calls_itself_else_its_address(
    context: Context, actor: str
) -> None:
    assert actor_of(context) == actor
