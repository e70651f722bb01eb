"""Between protobuf and the service: what is known of passwords beside their hashes."""

from __future__ import annotations

from aicc.mo.v1 import channel_directory_pb2 as pb

from service.channel_passwords import LastUses
from service.models import PasswordUse
from service.passwords import Hashing
from service.rpc.convert import from_timestamp, to_timestamp


def add_last_uses(channel: pb.Channel, uses: LastUses) -> None:
    """Say when the passwords of a channel were last used."""
    if uses.current is not None:
        channel.password_use_time.CopyFrom(to_timestamp(uses.current))
    if uses.previous is not None and channel.HasField("previous_password_expire_time"):
        channel.previous_password_use_time.CopyFrom(to_timestamp(uses.previous))


def from_use(use: pb.PasswordUse) -> PasswordUse:
    """Return a use as the service handles it."""
    return PasswordUse(use.channel_config_id, use.password_id, from_timestamp(use.use_time))


def to_hashing(hashing: Hashing) -> pb.PasswordHashing:
    """Return a setting as shims are told of it."""
    return pb.PasswordHashing(memory_kib=hashing.memory_kib, passes=hashing.passes)
