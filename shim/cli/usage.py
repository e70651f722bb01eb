"""How commands are declared: shared options, examples, and all faults of a command line named at once.

Click stops at the first fault. Here each level collects its own, and the verb reports them together.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from shim.cli.values import as_operator, as_service, as_timeout
from shim.service_tls import ServiceTls, find_conflicts, to_service_tls

_FAULTS = "shim.cli.faults"
_CHOSEN = "shim.cli.chosen"

Check = Callable[[Mapping[str, Any]], Iterable[str]]

# Flags that people try, and what to do instead.
_HINTS = {
    "--password": "there is no --password: everybody on this machine could read it, and the shell would keep it; "
    "pipe the password in with --password-stdin, or have one made with --generate-password",
}


class CommandError(Exception):
    """The command could not be done; `lines` tell why, and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Settings:
    """What the shared options say."""

    service: str = "127.0.0.1:50051"
    timeout: float = 10.0
    json: bool = False
    operator: str = ""
    tls: ServiceTls | None = None


def settings() -> Settings:
    """Return the shared options of the running command, the innermost one winning."""
    chosen = click.get_current_context().meta.get(_CHOSEN, {})
    names = Settings.__dataclass_fields__
    return Settings(**{name: value for name, value in chosen.items() if name in names}, tls=to_service_tls(chosen))


class _Collecting(click.Parameter):
    """A parameter that notes its fault instead of ending the parse."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        try:
            return super().handle_parse_result(ctx, opts, args)
        except click.UsageError as error:
            text = error.format_message()
            if self.name not in opts and self.resolve_envvar_value(ctx) is not None:
                text += f" It comes from the variable {ctx.auto_envvar_prefix}_{str(self.name).upper()}."
            _faults(ctx).append(text)
            if self.expose_value and self.name:
                ctx.params.setdefault(self.name, None)
            return None, args


class _Option(_Collecting, click.Option):
    pass


class _Argument(_Collecting, click.Argument):
    pass


option = functools.partial(click.option, cls=_Option)
argument = functools.partial(click.argument, cls=_Argument)


def shared_options(*, connects: bool, from_environment: bool = False) -> list[click.Parameter]:
    """Return --json and, where a command `connects`, what says where and how the service is called.

    They may stand at every level of the command line. Only the root's take
    their variables, so that a variable never beats a flag further left.
    """
    shared = functools.partial(
        _Option, expose_value=False, callback=_choose, default=None, allow_from_autoenv=from_environment
    )
    as_json = shared(["--json"], is_flag=True, help="Print one JSON object a line, for programs.")
    if not connects:
        return [as_json]
    where = "Where the service listens; of several, the first that answers. [default: 127.0.0.1:50051]"
    who = "Whom the audit log names for what is done. [default: USER@HOST]"
    pem = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        shared(["--service"], type=as_service, metavar="HOST:PORT[,…]", help=where),
        shared(["--service-ca"], type=pem, help="Who signs the service's certificate, PEM: TLS to the service."),
        shared(["--client-cert"], type=pem, help="Your certificate for the service, PEM."),
        shared(["--client-key"], type=pem, help="Its key, PEM, without a pass phrase."),
        shared(["--service-name"], metavar="NAME", help="The name in the service's certificate. [default: the host]"),
        shared(["--timeout"], type=as_timeout, metavar="SECONDS", help="How long each call may take. [default: 10]"),
        shared(["--operator"], type=as_operator, metavar="NAME", help=who),
        as_json,
    ]


def _choose(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None:
        ctx.meta.setdefault(_CHOSEN, {})[param.name] = value


class Verb(click.Command):
    """A command that names every fault at once.

    `check` sees the parameters, those at fault as None, and yields what is
    wrong with their combination.
    """

    def __init__(
        self,
        *args: Any,
        check: Check | None = None,
        connects: bool = True,
        **attributes: Any,
    ) -> None:
        attributes["params"] = [*(attributes.get("params") or ()), *shared_options(connects=connects)]
        super().__init__(*args, **attributes)
        self._check = check

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the rest of the command line; raises `click.UsageError` with a line for each fault."""
        known = _without_unknown(self, ctx, args)
        has_unknown = len(known) < len(args)
        try:
            rest = super().parse_args(ctx, known)
        except click.UsageError:
            rest = []
            # Not repeated: it may be a number or a password. After an unknown flag it is most likely that one's value.
            if not has_unknown:
                _faults(ctx).append("There are more arguments than the command takes.")
        if not ctx.resilient_parsing and self._check:
            _faults(ctx).extend(self._check(ctx.params))
        if not ctx.resilient_parsing:
            _faults(ctx).extend(f"{fault}." for fault in find_conflicts(ctx.meta.get(_CHOSEN, {})))
        _raise_faults(ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and see its output through before it counts as done."""
        result = super().invoke(ctx)
        sys.stdout.flush()
        return result


class Noun(click.Group):
    """A group of verbs."""

    def __init__(self, *args: Any, from_environment: bool = False, **attributes: Any) -> None:
        attributes["params"] = shared_options(connects=True, from_environment=from_environment)
        super().__init__(*args, **attributes)

    def verb(
        self, name: str, *, example: str, check: Check | None = None, connects: bool = True
    ) -> Callable[[Callable[..., Any]], click.Command]:
        """Declare a command of this noun, with the shared options and an example."""
        return self.command(name, cls=Verb, check=check, connects=connects, epilog=_example(example))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse up to the verb, leaving the faults for it to report with its own."""
        known = _without_unknown(self, ctx, args)
        if not known:
            _raise_faults(ctx)
        return super().parse_args(ctx, known)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; raises all faults so far when there is none of that name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            _faults(ctx).append(error.format_message())
        _raise_faults(ctx)
        raise AssertionError("unreachable: there was a fault")


class LazyGroup(Noun):
    """The root: nouns that are modules of `package`, each imported when it is used."""

    def __init__(self, *args: Any, package: str, nouns: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, from_environment=True, **attributes)
        self._package = package
        self._nouns = nouns

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in the order in which they were declared."""
        return list(self._nouns)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a noun."""
        if cmd_name not in self._nouns:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"{self._package}.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._nouns.items()))


def command(
    name: str, *, example: str, check: Check | None = None, connects: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command that is its own noun."""
    return click.command(name, cls=Verb, check=check, connects=connects, epilog=_example(example))


def _example(text: str) -> str:
    lines = "\n".join(f"  {line}" for line in text.splitlines())
    return f"\b\nExample:\n{lines}"


def _faults(ctx: click.Context) -> list[str]:
    faults: list[str] = ctx.meta.setdefault(_FAULTS, [])
    return faults


def _raise_faults(ctx: click.Context) -> None:
    if _faults(ctx) and not ctx.resilient_parsing:
        raise click.UsageError("\n".join(_faults(ctx)), ctx)


def _without_unknown(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str]:
    """Note each flag that doesn't exist or lacks its value, and return the arguments without them."""
    known = list(args)
    while True:
        try:
            command.make_parser(ctx).parse_args(list(known))
        except (click.NoSuchOption, click.BadOptionUsage) as error:
            _faults(ctx).append(_HINTS.get(error.option_name) or error.format_message())
            place = _place(known, error.option_name)
            if place is None:
                _raise_faults(ctx)
                return known
            del known[place]
        else:
            return known


def _place(args: Sequence[str], name: str) -> int | None:
    return next((i for i, arg in enumerate(args) if arg == name or arg.startswith(f"{name}=")), None)
