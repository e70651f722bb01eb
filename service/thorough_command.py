"""A command that says all at once what is wrong with how it was called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.core import iter_params_for_processing

Conflicts = Callable[[Mapping[str, Any]], Iterable[str]]


class ThoroughCommand(click.Command):
    """Names every bad flag, variable and argument, where click names the first, and exits 2.

    `find_conflicts` says what can't go together; parameters that are at fault themselves are missing for it.
    """

    def __init__(self, *args: Any, find_conflicts: Conflicts = lambda _: (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._find_conflicts = find_conflicts

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        faults: list[str] = []
        values, rest, order = self.make_parser(ctx).parse_args(self._leave_out_unknown(ctx, args, faults))
        for param in iter_params_for_processing(order, self.get_params(ctx)):
            try:
                param.handle_parse_result(ctx, values, [])
            except click.UsageError as error:
                faults.append(error.format_message())
        if rest:
            # Not repeated: it may be a DSN with a password.
            faults.append("There are more arguments than the command takes; a subcommand goes before all flags.")
        faults += self._find_conflicts(ctx.params)
        if faults:
            raise click.UsageError("\n".join(faults), ctx)
        return []

    def _leave_out_unknown(self, ctx: click.Context, args: list[str], faults: list[str]) -> list[str]:
        """Note each flag that doesn't exist or lacks its value, and return the arguments without them."""
        known = list(args)
        while True:
            try:
                self.make_parser(ctx).parse_args(list(known))
            except (click.NoSuchOption, click.BadOptionUsage) as error:
                faults.append(error.format_message())
                del known[_find(known, error.option_name)]
            else:
                return known


def _find(args: list[str], flag: str) -> int:
    """Return where a flag stands that the parser has met; of short ones several may stand together."""
    is_short = not flag.startswith("--")
    return next(
        place for place, arg in enumerate(args) if arg.partition("=")[0] == flag or (is_short and arg.startswith(flag))
    )
