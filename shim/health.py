"""Whether the shim does its work, and if not, why not. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Readiness(Enum):
    """How well the shim does its work."""

    READY = "ready"
    DEGRADED = "degraded"
    """It answers, but something of ours is away."""
    NOT_READY = "not ready"
    """It should get no requests."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not as it should be."""

    readiness: Readiness
    reason: str
    detail: str
    facts: Mapping[str, object] = field(default_factory=dict)
    """Figures and times, for machines."""

    def to_json(self) -> Mapping[str, object]:
        """Return it as /readyz has it."""
        return {"reason": self.reason, "detail": self.detail, **self.facts}


class Health:
    """Asks all parts how they are."""

    def __init__(self) -> None:
        self.is_serving = False
        """Whether the public port is open to new requests."""
        self._checks: list[Callable[[], Iterable[Reason]]] = [self._check_serving]

    def add(self, check: Callable[[], Iterable[Reason]]) -> None:
        """Add something that may be wrong; the check must be quick and not fail."""
        self._checks.append(check)

    def find_reasons(self) -> Sequence[Reason]:
        """Return everything that is not as it should be."""
        return [reason for check in self._checks for reason in check()]

    def _check_serving(self) -> Iterable[Reason]:
        if not self.is_serving:
            yield Reason(Readiness.NOT_READY, "not_serving", "The shim is starting or draining.")


def find_worst(reasons: Iterable[Reason]) -> Readiness:
    """Return what the worst of the reasons makes of the shim."""
    found = {reason.readiness for reason in reasons}
    return next((r for r in (Readiness.NOT_READY, Readiness.DEGRADED) if r in found), Readiness.READY)
