"""Who may do what: roles, the file that grants them, and which role each call asks for. Pure."""

from service.access.methods import OPEN_METHODS, ROLES, role_of
from service.access.policy import ANONYMOUS, BadRoles, Policy, parse_roles
from service.access.roles import Grant, Need, Role

__all__ = [
    "ANONYMOUS",
    "OPEN_METHODS",
    "ROLES",
    "BadRoles",
    "Grant",
    "Need",
    "Policy",
    "Role",
    "parse_roles",
    "role_of",
]
