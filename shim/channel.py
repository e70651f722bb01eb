"""What the shim knows of a channel."""

from dataclasses import dataclass
from typing import NamedTuple

from shim.signature import Secret, SignatureCheck


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """The argon2id hash of one password, in the PHC string format, and when it ends (seconds since 1970)."""

    phc: str
    expires_at: float | None = None
    password_id: str = ""
    """What the service calls the password, whichever its hash is."""


class PasswordUse(NamedTuple):
    """When a password of a channel was last used, in seconds since 1970."""

    channel_config_id: str
    password_id: str
    used_at: float


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as far as its callers are concerned."""

    channel_config_id: str
    provider: str
    is_enabled: bool
    """Whether callers are let in. A paused channel lets them in: the service holds its messages."""
    webhook_user: str
    password_hashes: tuple[PasswordHash, ...]
    credential_revision: int
    """Changes with the user and the passwords, and with nothing else."""
    infer_message_type: bool
    signature_check: SignatureCheck = SignatureCheck.OFF
    signature_secrets: tuple[Secret, ...] = ()
    """Sealed: see `secrets_key`."""
