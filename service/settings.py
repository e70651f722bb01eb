"""What the operator sets: flags, each also a variable `MO_SERVICE_…`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import iter_params_for_processing

from service.addresses import ADDRESS, UNIX, is_local
from service.certificates import SecurityFiles
from service.passwords import DEFAULT_MEMORY_KIB, DEFAULT_PASSES, Hashing

POSTGRES = ("postgresql://", "postgres://")


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


class Address(click.ParamType[str]):
    """HOST:PORT; port 0 takes a free one."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = ADDRESS.fullmatch(value)
        if not match or int(match["port"]) > 65535:
            self.fail(f"{value!r} is no HOST:PORT, for example 127.0.0.1:50051", param, ctx)
        return str(value)


class GrpcAddress(Address):
    """HOST:PORT, or `unix:PATH`."""

    name = "HOST:PORT|unix:PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.startswith(UNIX):
            return super().convert(value, param, ctx)
        if not value.removeprefix(UNIX).startswith("/"):
            self.fail(f"{value!r} is no Unix socket; give its whole path, for example unix:/run/mo/mo.sock", param, ctx)
        return str(value)


class StoreUrl(click.ParamType["Path | str"]):
    """`sqlite:///relative/path`, `sqlite:////absolute/path`, or a DSN of PostgreSQL, as it is."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        if isinstance(value, Path):
            return value
        if value.startswith(POSTGRES):
            return str(value)
        path = str(value).removeprefix("sqlite:///")
        if path == value or not path or path.endswith("/"):
            self.fail(
                "that is no store; give sqlite:///var/mo.db (relative), sqlite:////var/lib/mo/mo.db (absolute) "
                "or postgresql://USER@HOST/DATABASE",
                param,
                ctx,
            )
        return Path(path)


class AllFaultsCommand(click.Command):
    """Names everything that is wrong with flags and variables at once, and exits 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True  # they are named below, with the rest
        faults: list[str] = []
        values: dict[str, Any] = {}
        unknown: list[str] = []
        order: list[click.Parameter] = []
        try:
            values, unknown, order = self.make_parser(ctx).parse_args(args=list(args))
        except click.UsageError as error:
            faults.append(error.format_message())
        for param in iter_params_for_processing(order, self.get_params(ctx)):
            try:
                param.handle_parse_result(ctx, values, [])
            except click.UsageError as error:
                faults.append(error.format_message())
        faults += [f"No such flag or argument: {argument}" for argument in unknown]
        faults += _find_conflicts(ctx.params)
        if faults:
            raise click.UsageError("\n".join(faults), ctx)
        return []


def _find_conflicts(flags: Mapping[str, Any]) -> Iterator[str]:
    """Name what can't go together. Flags that are at fault themselves are missing."""
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


EXAMPLES = """
\b
Examples:
  mo-service --listen 127.0.0.1:50051 --store sqlite:///var/mo.db
  mo-service --listen 0.0.0.0:50051 --tls-cert mo.pem --tls-key mo.key --tls-client-ca ca.pem --roles roles.toml
"""
MOST_MEMORY_KIB = 256 * 1024
"""Every shim has to find as much for each of its threads that verify."""
MOST_PASSES = 20
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def build_command(run: Callable[[Settings], int]) -> click.Command:
    """Return the command; it exits with what `run` returns."""

    @click.command(
        cls=AllFaultsCommand,
        help="Take WhatsApp MO messages in over gRPC, store them, and hand them to the AICC's services.",
        epilog=EXAMPLES,
        context_settings={"auto_envvar_prefix": "MO_SERVICE", "max_content_width": 100, "show_default": True},
    )
    @click.option(
        "--listen",
        type=GrpcAddress(),
        default=Settings.listen,
        help="Where gRPC is served. Without TLS, a loopback address or a Unix socket.",
        show_envvar=True,
    )
    @click.option(
        "--admin-listen",
        type=Address(),
        default=Settings.admin_listen,
        help="Where /metrics, /healthz and /readyz are served.",
        show_envvar=True,
    )
    @click.option(
        "--store",
        type=StoreUrl(),
        default="sqlite:///var/mo.db",
        help="Where everything is kept: sqlite:/// (three slashes relative, four absolute) or postgresql://…",
        show_envvar=True,
    )
    @click.option(
        "--store-listen",
        type=StoreUrl(),
        default=None,
        help="PostgreSQL itself, where --store is a pooler in transaction mode (PgBouncer).",
        show_envvar=True,
    )
    @click.option(
        "--secrets-key",
        type=FILE,
        default=None,
        help="The key file that seals the secrets of channels (mo secrets init); read again at each use.",
        show_envvar=True,
    )
    @click.option(
        "--argon2-memory-kib",
        type=click.IntRange(DEFAULT_MEMORY_KIB, MOST_MEMORY_KIB),
        default=DEFAULT_MEMORY_KIB,
        help="The memory of a password's hash; raised, each is made anew when its password is next used.",
        show_envvar=True,
    )
    @click.option(
        "--argon2-passes",
        type=click.IntRange(DEFAULT_PASSES, MOST_PASSES),
        default=DEFAULT_PASSES,
        help="How often a hash goes over its memory; raised as above.",
        show_envvar=True,
    )
    @click.option(
        "--tls-cert", type=FILE, default=None, help="The service's certificate and its chain, PEM.", show_envvar=True
    )
    @click.option("--tls-key", type=FILE, default=None, help="The key of that certificate, PEM.", show_envvar=True)
    @click.option(
        "--tls-client-ca",
        type=FILE,
        default=None,
        help="Who signs the certificates of callers, PEM: each caller needs one.",
        show_envvar=True,
    )
    @click.option(
        "--roles",
        type=FILE,
        default=None,
        help='Which caller may do what, TOML: "bot.example.com" = ["consume:bot", "assign"].',
        show_envvar=True,
    )
    @click.option(
        "--insecure-listen",
        is_flag=True,
        help="Let other machines in without TLS: each of them may do everything.",
        show_envvar=True,
    )
    @click.pass_context
    def command(context: click.Context, /, **flags: Any) -> None:
        context.exit(run(_to_settings(flags)))

    return command


def _to_settings(flags: dict[str, Any]) -> Settings:
    cert, key, roles, client_ca = (flags.pop(name) for name in ("tls_cert", "tls_key", "roles", "tls_client_ca"))
    del flags["insecure_listen"]  # said yes to already
    hashing = Hashing(flags.pop("argon2_memory_kib"), flags.pop("argon2_passes"))
    return Settings(**flags, hashing=hashing, security=SecurityFiles(cert, key, roles, client_ca) if cert else None)
