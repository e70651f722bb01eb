"""What can go wrong, in the gateway's own words.

Each class says whose fault it is; `rpc.statuses` alone turns them into gRPC
statuses. A message tells what to do, and never holds a secret or a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Violation(NamedTuple):
    """One thing that is wrong with one field; never holds the field's value."""

    field: str
    description: str


class GatewayError(Exception):
    """Everything that this service raises on purpose."""


class InvalidRequest(GatewayError):
    """The caller's fault: these fields are wrong, and a retry would be too."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{field}: {description}" for field, description in violations))
        self.violations = tuple(violations)


class NotFound(GatewayError):
    """What the caller named doesn't exist."""


class PermissionDenied(GatewayError):
    """The caller hasn't the role that the call asks for."""


class AlreadyExists(GatewayError):
    """The id is in use, or was."""


class Conflict(GatewayError):
    """It has changed since the caller read it: read again and repeat."""


class StillInUse(GatewayError):
    """Something has to be settled first."""


class CannotSeal(GatewayError):
    """The service has no key to seal or open secrets with, or can't use it."""


class StoreUnavailable(GatewayError):
    """The store can't be reached or took too long: the outcome is unknown, a retry is safe."""


class Stopping(GatewayError):
    """The process is going away: call again, and another one or the next one answers."""


class StoreRefused(GatewayError):
    """The store must not be opened as it is: the process doesn't start."""
