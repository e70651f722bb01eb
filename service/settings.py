"""What the operator sets: flags, each also a variable `MO_SERVICE_…`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from service.addresses import is_local
from service.flag_types import FILE, Address, GrpcAddress, StoreUrl
from service.passwords import DEFAULT_MEMORY_KIB, DEFAULT_PASSES, Hashing
from service.security_files import SecurityFiles
from service.thorough_command import ThoroughCommand

CONTEXT = {"auto_envvar_prefix": "MO_SERVICE", "max_content_width": 100, "show_default": True}
"""What all commands of the service have in common."""

DEFAULT_STORE = "sqlite:///var/mo.db"

NEEDS_ASYNCPG = "a PostgreSQL store needs asyncpg; install the extra: pip install 'aicc-mo-gateway[postgres]'"


@dataclass(frozen=True)
class Settings:
    """What a service process runs with."""

    listen: str = "127.0.0.1:50051"
    admin_listen: str = "127.0.0.1:8082"
    store: Path | str = Path("var/mo.db")
    """A SQLite file, or the DSN of a PostgreSQL database."""
    store_listen: str | None = None
    """The DSN that goes straight to PostgreSQL, where `store` is a pooler's."""
    secrets_key: Path | None = None
    """The key file that seals the secrets of channels; None: there can be none."""
    hashing: Hashing = field(default_factory=Hashing)
    """How strong the hashes of passwords are made."""
    security: SecurityFiles | None = None
    """None: no TLS, and every caller has every role."""


EXAMPLES = """
\b
Examples:
  mo-service --listen 127.0.0.1:50051 --store sqlite:///var/mo.db
  mo-service --listen 0.0.0.0:50051 --tls-cert mo.pem --tls-key mo.key --tls-client-ca ca.pem --roles roles.toml

\b
Tools for the store, with a --help of their own:
  mo-service check    Tell how large the store is, how it stands, and what to do about it.
  mo-service copy     Move a stopped service's SQLite store to PostgreSQL.
"""
MOST_MEMORY_KIB = 256 * 1024
"""Every shim has to find as much for each of its threads that verify."""
MOST_PASSES = 20


def build_command(run: Callable[[Settings], int]) -> click.Command:
    """Return the command that runs the service; it exits with what `run` returns."""

    def command(**flags: Any) -> None:
        click.get_current_context().exit(run(_to_settings(flags)))

    return ThoroughCommand(
        "mo-service",
        params=[*_addresses(), *_store(), *_hashing(), *_security()],
        callback=command,
        help="Take WhatsApp MO messages in over gRPC, store them, and hand them to the AICC's services.",
        epilog=EXAMPLES,
        context_settings=CONTEXT,
        find_conflicts=_find_conflicts,
    )


def _flag(name: str, help_text: str, *, default: Any = None, **attributes: Any) -> click.Option:
    return click.Option([name], help=help_text, default=default, show_envvar=True, **attributes)


def store_flag() -> click.Option:
    """Return the flag that says where everything is kept."""
    return _flag(
        "--store",
        "Where everything is kept: sqlite:/// (three slashes relative, four absolute) or postgresql://…",
        type=StoreUrl(),
        default=DEFAULT_STORE,
    )


def _addresses() -> list[click.Parameter]:
    return [
        _flag(
            "--listen",
            "Where gRPC is served. Without TLS, a loopback address or a Unix socket.",
            type=GrpcAddress(),
            default=Settings.listen,
        ),
        _flag(
            "--admin-listen",
            "Where /metrics, /healthz and /readyz are served.",
            type=Address(),
            default=Settings.admin_listen,
        ),
    ]


def _store() -> list[click.Parameter]:
    return [
        store_flag(),
        _flag(
            "--store-listen",
            "PostgreSQL itself, where --store is a pooler in transaction mode (PgBouncer).",
            type=StoreUrl(),
        ),
        _flag(
            "--secrets-key",
            "The key file that seals the secrets of channels (mo secrets init); read again at each use.",
            type=FILE,
        ),
    ]


def _hashing() -> list[click.Parameter]:
    return [
        _flag(
            "--argon2-memory-kib",
            "The memory of a password's hash; raised, each is made anew when its password is next used.",
            type=click.IntRange(DEFAULT_MEMORY_KIB, MOST_MEMORY_KIB),
            default=DEFAULT_MEMORY_KIB,
        ),
        _flag(
            "--argon2-passes",
            "How often a hash goes over its memory; raised as above.",
            type=click.IntRange(DEFAULT_PASSES, MOST_PASSES),
            default=DEFAULT_PASSES,
        ),
    ]


def _security() -> list[click.Parameter]:
    return [
        _flag("--tls-cert", "The service's certificate and its chain, PEM.", type=FILE),
        _flag("--tls-key", "The key of that certificate, PEM.", type=FILE),
        _flag("--tls-client-ca", "Who signs the certificates of callers, PEM: each caller needs one.", type=FILE),
        _flag("--roles", 'Which caller may do what, TOML: "bot.example.com" = ["consume:bot", "assign"].', type=FILE),
        _flag("--insecure-listen", "Let other machines in without TLS: each of them may do everything.", is_flag=True),
    ]


def _find_conflicts(flags: Mapping[str, Any]) -> Iterator[str]:
    """Name what can't go together."""
    has_tls = bool(flags.get("tls_cert") or flags.get("tls_key"))
    if has_tls and not (flags.get("tls_cert") and flags.get("tls_key")):
        yield "--tls-cert and --tls-key need each other: give both."
    if has_tls and not flags.get("roles"):
        yield "--tls-cert needs --roles: give a file that says which caller may do what."
    if has_tls and flags.get("insecure_listen"):
        yield "--insecure-listen is for a service without TLS: leave it out."
    for flag in ("tls_client_ca", "roles"):
        if flags.get(flag) and not has_tls:
            yield f"--{flag.replace('_', '-')} needs --tls-cert and --tls-key: without TLS nobody can say who calls."
    if flags.get("store_listen") and not isinstance(flags.get("store"), str):
        yield "--store-listen is for PostgreSQL: leave it out, or give --store postgresql://…"
    listen = flags.get("listen")
    if listen and not (has_tls or flags.get("insecure_listen") or is_local(listen)):
        yield (
            f"--listen {listen} lets other machines in, and without TLS each of them may do everything: "
            "give --tls-cert, --tls-key, --tls-client-ca and --roles, or listen on 127.0.0.1, or take the risk with "
            "--insecure-listen."
        )


def _to_settings(flags: dict[str, Any]) -> Settings:
    cert, key, roles, client_ca = (flags.pop(name) for name in ("tls_cert", "tls_key", "roles", "tls_client_ca"))
    del flags["insecure_listen"]  # said yes to already
    hashing = Hashing(flags.pop("argon2_memory_kib"), flags.pop("argon2_passes"))
    return Settings(**flags, hashing=hashing, security=SecurityFiles(cert, key, roles, client_ca) if cert else None)
