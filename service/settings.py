"""What the operator sets: flags, each also a variable `MO_SERVICE_…`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import iter_params_for_processing

ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Settings:
    """What a service process runs with."""

    listen: str = "127.0.0.1:50051"
    admin_listen: str = "127.0.0.1:8082"
    store: Path = Path("var/mo.db")


class Address(click.ParamType[str]):
    """HOST:PORT; port 0 takes a free one."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = ADDRESS.fullmatch(value)
        if not match or int(match["port"]) > 65535:
            self.fail(f"{value!r} is no HOST:PORT, for example 127.0.0.1:50051", param, ctx)
        return str(value)


class StoreUrl(click.ParamType[Path]):
    """`sqlite:///relative/path` or `sqlite:////absolute/path`."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, Path):
            return value
        path = str(value).removeprefix("sqlite:///")
        if path == value or not path or path.endswith("/"):
            self.fail(
                f"{value!r} is no store; give sqlite:///var/mo.db (relative) or sqlite:////var/lib/mo/mo.db (absolute)",
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
        if faults:
            raise click.UsageError("\n".join(faults), ctx)
        return []


EXAMPLE = """
\b
Example:
  mo-service --listen 127.0.0.1:50051 --store sqlite:///var/mo.db
"""


def build_command(run: Callable[[Settings], int]) -> click.Command:
    """Return the command; it exits with what `run` returns."""

    @click.command(
        cls=AllFaultsCommand,
        help="Take WhatsApp MO messages in over gRPC, store them, and hand them to the AICC's services.",
        epilog=EXAMPLE,
        context_settings={"auto_envvar_prefix": "MO_SERVICE", "max_content_width": 100, "show_default": True},
    )
    @click.option("--listen", type=Address(), default=Settings.listen, help="Where gRPC is served.", show_envvar=True)
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
        help="Where everything is kept: three slashes relative, four absolute.",
        show_envvar=True,
    )
    @click.pass_context
    def command(context: click.Context, /, **flags: Any) -> None:
        context.exit(run(Settings(**flags)))

    return command
