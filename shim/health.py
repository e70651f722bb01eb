"""Whether the shim does its work, and if not, why not. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Readiness(Enum):
    """How well the shim does its work."""

    READY = "ready"
    DEGRADED = "degraded"
    """It answers, but something of ours is away."""
    NOT_READY = "not_ready"
    """It should get no requests."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not as it should be."""

    readiness: Readiness
    reason: str
    detail: str


class Health:
    """Asks all parts how they are."""

    def __init__(self) -> None:
        self.is_serving = False
        """Whether the public port is open to new requests."""
        self._checks: list[Callable[[], Reason | None]] = [self._check_serving]

    def add(self, check: Callable[[], Reason | None]) -> None:
        """Add something that may be wrong; the check must be quick and not fail."""
        self._checks.append(check)

    def report(self) -> tuple[Readiness, Sequence[Mapping[str, str]]]:
        """Return the worst that there is, and every reason as JSON has it."""
        reasons = [reason for check in self._checks if (reason := check())]
        found = {reason.readiness for reason in reasons}
        worst = next((r for r in (Readiness.NOT_READY, Readiness.DEGRADED) if r in found), Readiness.READY)
        return worst, [{"reason": reason.reason, "detail": reason.detail} for reason in reasons]

    def _check_serving(self) -> Reason | None:
        if self.is_serving:
            return None
        return Reason(Readiness.NOT_READY, "not_serving", "The shim is starting or draining.")
