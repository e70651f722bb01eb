"""Asks before what can't be undone."""

import sys

import click

from shim.cli.usage import CommandError


def confirm_final(deed: str) -> None:
    """Have the person confirm `deed`, like "discarding all held messages". Raises `CommandError` unless they do.

    Where nobody can be asked, only --yes confirms, so that no script does it unawares.
    """
    if not sys.stdin.isatty():
        raise CommandError(f"{deed} can't be undone; confirm it with --yes")
    confirm(deed)


def confirm(deed: str) -> None:
    """Ask the person on the terminal whether to go on. Raises `CommandError` when they don't want to."""
    if not click.confirm(f"{deed[:1].upper()}{deed[1:]} can't be undone. Go on?", err=True):
        raise CommandError("nothing was done")
