"""A command that says all at once what is wrong with how it was called."""

from collections.abc import Callable
from typing import Any

import click


class ThoroughCommand(click.Command):
    """A command that names every bad flag and variable, where click names the first."""

    def __init__(self, *args: Any, find_conflicts: Callable[[dict[str, Any]], list[str]], **kwargs: Any) -> None:
        """`find_conflicts` says what is wrong with values that are right one by one."""
        super().__init__(*args, **kwargs)
        self.find_conflicts = find_conflicts

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = ctx.allow_extra_args = True
        faults: list[str] = []
        options, rest, order = self._split(ctx, args, faults)
        for parameter in click.core.iter_params_for_processing(order, self.get_params(ctx)):
            try:
                _, rest = parameter.handle_parse_result(ctx, options, rest)
            except click.UsageError as fault:
                faults.append(fault.format_message())
        faults += [f"No such flag: {arg}" if arg.startswith("-") else f"Unexpected argument: {arg}" for arg in rest]
        faults += [] if faults else self.find_conflicts(ctx.params)
        if faults:
            click.echo("\n".join([ctx.get_usage(), *faults, f"See {ctx.info_name} --help."]), err=True)
            ctx.exit(2)
        return []

    def _split(
        self, ctx: click.Context, args: list[str], faults: list[str]
    ) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
        """Tell flags, their values and the rest apart; a flag without its value can only be the last."""
        try:
            options, rest, order = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError as fault:
            faults.append(fault.format_message())
            options, rest, order = self.make_parser(ctx).parse_args(args[:-1])
        return dict(options), rest, order
