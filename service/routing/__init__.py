"""Routes: where a message goes, why, and what is suspicious about them. Pure, but for the time zone files."""

from __future__ import annotations

from service.routing.conditions import Explanation, explain
from service.routing.decisions import decide, route
from service.routing.index import RouteIndex
from service.routing.patterns import check_pattern
from service.routing.shadows import RouteWarning, find_warnings
from service.routing.texts import canonical_type
from service.routing.windows import find_zone

__all__ = [
    "Explanation",
    "RouteIndex",
    "RouteWarning",
    "canonical_type",
    "check_pattern",
    "decide",
    "explain",
    "find_warnings",
    "find_zone",
    "route",
]
