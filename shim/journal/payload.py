"""What an entry of the kind `MESSAGE` holds: an encoded batch of one message, and whose webhook it came in on.

The integrator is a field that the contract doesn't have, so the service skips it; entries without one are of a shim
that knew a single integrator. So a journal can be read by older and newer shims, and joined entries are a batch.
"""

from dataclasses import dataclass

from aicc.mo.v1.message_ingest_pb2 import IngestBatchRequest
from aicc.mo.v1.message_pb2 import MoMessage
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

_FIELD = 1_000
_TAG = b"\xc2\x3e"
"""Field 1000, of the wire type that has a length: protobuf.dev/programming-guides/encoding."""
_FIRST_INTEGRATOR = "twilio"


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message that had its 2xx, and the integrator that it came from."""

    message: MoMessage
    integrator: str


def encode_kept(batch: bytes, integrator: str) -> bytes:
    """Encode an encoded batch of one message with its integrator, whose name has at most 127 bytes."""
    name = integrator.encode("ascii")
    return batch + _TAG + bytes([len(name)]) + name


def decode_kept(payload: bytes) -> KeptMessage | None:
    """Decode an entry's payload; None when it holds no message."""
    try:
        batch = IngestBatchRequest.FromString(payload)
    except DecodeError:
        return None
    if not batch.messages:
        return None
    unknown = UnknownFieldSet(batch)
    fields = [unknown[index] for index in range(len(unknown))]
    names = [field.data.decode("ascii") for field in fields if field.field_number == _FIELD]
    return KeptMessage(batch.messages[0], names[-1] if names else _FIRST_INTEGRATOR)
