"""The subcommands of `mo-service`: tools for the store. Each is imported when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

TOOLS: Mapping[str, str] = {"check": "service.check_command", "copy": "service.copy_command"}
"""Modules with a function `build_command`."""


def find_tool(name: str) -> click.Command | None:
    """Return the command of a tool, None when there is none of that name."""
    if name not in TOOLS:
        return None
    command: click.Command = import_module(TOOLS[name]).build_command()
    return command
