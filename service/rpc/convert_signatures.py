"""Signatures and their secrets: protobuf to records and back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aicc.mo.v1 import channel_directory_pb2 as pb

from service.errors import InvalidRequest, Violation
from service.models import SecretKind, SignatureCheck, SignatureCount, SignatureResult, SignatureSecret
from service.rpc.convert import from_timestamp, to_timestamp

CHECKS = {
    SignatureCheck.OFF: pb.SIGNATURE_CHECK_OFF,
    SignatureCheck.OBSERVE: pb.SIGNATURE_CHECK_OBSERVE,
    SignatureCheck.ENFORCE: pb.SIGNATURE_CHECK_ENFORCE,
}
CHECKS_BACK = {value: check for check, value in CHECKS.items()}

KINDS = {
    SecretKind.AUTH_TOKEN: pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN,
    SecretKind.SHARED_KEY: pb.SIGNATURE_SECRET_KIND_SHARED_KEY,
}
KINDS_BACK = {value: kind for kind, value in KINDS.items()}

RESULTS = {result: pb.SignatureResult.Value(f"SIGNATURE_RESULT_{result}") for result in SignatureResult}
RESULTS_BACK = {value: result for result, value in RESULTS.items()}


def to_secret(secret: SignatureSecret) -> pb.SignatureSecret:
    """Return what may be known of a secret."""
    return pb.SignatureSecret(
        secret_id=secret.secret_id, kind=KINDS[secret.kind], create_time=to_timestamp(secret.created_at)
    )


def to_sealed(secret: SignatureSecret) -> pb.SealedSecret:
    """Return what a shim needs of a secret."""
    return pb.SealedSecret(kind=KINDS[secret.kind], sealed=secret.sealed)


def to_count(count: SignatureCount) -> pb.SignatureCount:
    return pb.SignatureCount(result=RESULTS[count.result], count=count.count, last_time=to_timestamp(count.last_at))


def from_report(request: pb.ReportSignaturesRequest) -> Sequence[SignatureCount]:
    """Return what was counted. Raises `InvalidRequest`, naming every count that is none."""
    violations = list(_check_report(request))
    if violations:
        raise InvalidRequest(violations)
    return [
        SignatureCount(
            channel.channel_config_id, RESULTS_BACK[count.result], count.count, from_timestamp(count.last_time)
        )
        for channel in request.channels
        for count in channel.counts
    ]


def _check_report(request: pb.ReportSignaturesRequest) -> Iterator[Violation]:
    for number, channel in enumerate(request.channels):
        for place, count in enumerate(channel.counts):
            field = f"channels[{number}].counts[{place}]"
            if count.result not in RESULTS_BACK:
                yield Violation(f"{field}.result", "is not known")
            if not 1 <= count.count < 2**40:
                yield Violation(f"{field}.count", "must be at least 1, and no fault of counting")
