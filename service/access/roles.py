"""Roles, what a caller is granted of them, and what a call needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

PATTERN = re.compile(r"[A-Za-z0-9._~*-]{1,128}", re.ASCII)


class Role(StrEnum):
    """What somebody may do."""

    SHIM = "shim"
    """Takes part as a shim: sees who may call in, and stores what was received. Includes `ingest:*`."""
    INGEST = "ingest"
    """Stores messages of some channels; sees no hash and no secret."""
    CONSUME = "consume"
    """Takes the messages of some destinations, and settles them."""
    ASSIGN = "assign"
    """Passes conversations from one destination to another."""
    OPERATE = "operate"
    """Changes what there is. Includes `read` and `assign`."""
    READ = "read"
    """Looks at what there is."""


SCOPES = {Role.INGEST: "channel", Role.CONSUME: "destination"}
"""What the pattern of a role is about; the others have none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody has; `pattern` says for which channels or destinations, `*` standing for any characters."""

    role: Role
    pattern: str = "*"


INCLUDED = {
    Role.SHIM: (Grant(Role.INGEST),),
    Role.OPERATE: (Grant(Role.READ), Grant(Role.ASSIGN)),
}
"""What comes with a role."""


@dataclass(frozen=True, slots=True)
class Need:
    """A role that a call asks for, and the channel or destination that it is about."""

    role: Role
    name: str = ""

    def __str__(self) -> str:
        """Write it as in a roles file; what can't be a name there is left out."""
        if self.role not in SCOPES:
            return self.role
        is_plain = PATTERN.fullmatch(self.name) and "*" not in self.name
        return f"{self.role}:{self.name}" if is_plain else f"{self.role}:<{SCOPES[self.role]}>"


def parse_grant(text: str) -> Grant:
    """Read `read`, `consume:bot` or `ingest:C17-*`. Raises `ValueError`, whose message completes "ROLE …"."""
    name, colon, pattern = text.partition(":")
    try:
        role = Role(name)
    except ValueError:
        raise ValueError(f"is no role; there are {', '.join(_spell(role) for role in Role)}") from None
    if role not in SCOPES:
        if colon:
            raise ValueError(f"takes no pattern; write {role}")
        return Grant(role)
    if not PATTERN.fullmatch(pattern):
        raise ValueError(
            f"names no {SCOPES[role]}; write {role}:NAME, {role}:PREFIX* or {role}:* with A-Z a-z 0-9 . _ ~ - in it"
        )
    return Grant(role, pattern)


def _spell(role: Role) -> str:
    return f"{role}:<{SCOPES[role]} pattern>" if role in SCOPES else role
