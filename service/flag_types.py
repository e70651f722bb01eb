"""What flags may say: addresses, stores, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from service.addresses import ADDRESS, UNIX

POSTGRES = ("postgresql://", "postgres://")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
