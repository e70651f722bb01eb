"""Who has which roles: what a roles file says."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from service.access.roles import INCLUDED, Grant, Need, Role, parse_grant

ANONYMOUS = "anonymous"
"""The name in a roles file of callers that nobody vouches for: those without a certificate."""


class BadRoles(Exception):
    """A roles file can't be used; the message names everything that is wrong with it."""


class Policy:
    """What each identity is granted. Identities are compared letter by letter."""

    def __init__(self, grants: Mapping[str, Iterable[Grant]]) -> None:
        self._patterns = {identity: _patterns_of(given) for identity, given in grants.items()}

    def has_any(self, identity: str) -> bool:
        """Tell whether somebody has any role."""
        return bool(self._patterns.get(identity))

    def find_missing(self, identity: str, needs: Iterable[Need]) -> Need | None:
        """Return the first need that the identity's roles don't cover; None when it may do it all."""
        granted = self._patterns.get(identity, {})
        for need in needs:
            pattern = granted.get(need.role)
            if pattern is None or not pattern.match(need.name):
                return need
        return None


def _patterns_of(grants: Iterable[Grant]) -> Mapping[Role, re.Pattern[str]]:
    alternatives: dict[Role, list[str]] = defaultdict(list)
    for grant in grants:
        for each in (grant, *INCLUDED.get(grant.role, ())):
            # What fnmatch would also take as special, PATTERN has refused; its expressions need no backtracking.
            alternatives[each.role].append(fnmatch.translate(each.pattern))
    return {role: re.compile("|".join(expressions)) for role, expressions in alternatives.items()}


def parse_roles(text: str) -> Policy:
    """Read a roles file: TOML, each key an identity, each value the list of its roles.

    Raises `BadRoles`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRoles(f"is no TOML: {error}") from None
    faults: list[str] = []
    grants = {identity: list(_grants_of(identity, roles, faults)) for identity, roles in table.items()}
    if not grants:
        faults.append('grants nothing; write lines like "bot.example.com" = ["consume:bot"]')
    if faults:
        raise BadRoles("; ".join(faults))
    return Policy(grants)


def _grants_of(identity: str, roles: object, faults: list[str]) -> Iterable[Grant]:
    if isinstance(roles, dict):
        faults.append(f'{identity}: is a table; put the whole identity in quotes: "{identity}.…" = ["read"]')
        return
    if not _is_list_of_texts(roles):
        faults.append(f'{identity}: must be a list of roles, for example ["consume:bot", "read"]')
        return
    for role in roles:
        try:
            yield parse_grant(role)
        except ValueError as error:
            faults.append(f'{identity}: "{role}" {error}')


def _is_list_of_texts(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
