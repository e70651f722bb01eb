"""The shim's flags and variables -> `Settings`. Whatever is wrong with them is said all at once."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click

from shim.authorization import VerificationLimits
from shim.batching import BatchLimits

_VARIABLE_PREFIX = "MO_SHIM"


class Address(NamedTuple):
    """Where to listen; port 0 means any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be set."""

    listen: Address
    admin_listen: Address
    service: str
    """A gRPC target."""
    state_dir: Path
    reply: str = "empty"
    batches: BatchLimits = field(default_factory=BatchLimits)
    verification: VerificationLimits = field(default_factory=VerificationLimits)
    log_level: str = "info"


class _AddressType(click.ParamType):
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", str(value))
        if not match or int(match[3]) > 65_535:
            self.fail("is no address; give HOST:PORT, for example 127.0.0.1:8080", param, ctx)
        return Address(match[1] or match[2], int(match[3]))


class _TargetType(click.ParamType):
    """`HOST:PORT`, several of them with IP addresses, or `dns:///NAME:PORT` -> a gRPC target."""

    name = "host:port[,…]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if re.fullmatch(r"(dns:///[A-Za-z0-9._-]+:[0-9]{1,5}|(ipv4|ipv6):[^/].*)", text):
            return text
        addresses = [_AddressType().convert(part.strip(), param, ctx) for part in text.split(",")]
        try:
            versions = {ipaddress.ip_address(address.host).version for address in addresses}
        except ValueError:
            if len(addresses) == 1:
                return f"dns:///{addresses[0]}"
            self.fail("is a list with names in it; list IP addresses, or give dns:///NAME:PORT", param, ctx)
        if len(versions) > 1:
            self.fail("mixes IPv4 and IPv6; list addresses of one kind", param, ctx)
        return f"ipv{versions.pop()}:" + ",".join(map(str, addresses))


class _ThoroughCommand(click.Command):
    """A command that names every bad flag and variable, where click names the first."""

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


def _bounded(low: int, high: int) -> click.IntRange:
    return click.IntRange(low, high)


_BATCHES = BatchLimits()
_VERIFICATION = VerificationLimits()


def command(run: Callable[[Settings], None], *, name: str) -> click.Command:
    """Make the command that reads the flags and variables and runs the shim with them."""

    def call(**values: Any) -> None:
        run(_to_settings(values))

    options: Sequence[click.Option] = [
        click.Option(["--listen"], type=_AddressType(), default="127.0.0.1:8080", help="Public port, for webhooks."),
        click.Option(
            ["--admin-listen"],
            type=_AddressType(),
            default="127.0.0.1:8081",
            help="Private port, for metrics and probes.",
        ),
        click.Option(
            ["--service"],
            type=_TargetType(),
            default="127.0.0.1:50051",
            help="The service: HOST:PORT, several IP addresses with commas, or dns:///NAME:PORT.",
        ),
        click.Option(
            ["--state-dir"],
            type=click.Path(file_okay=False, path_type=Path),
            default="var/shim",
            help="Folder for what the shim keeps; nobody else may use it.",
        ),
        click.Option(
            ["--reply"],
            type=click.Choice(["empty", "twiml"]),
            default="empty",
            help="Answer stored messages with 204, or with 200 and an empty TwiML document.",
        ),
        click.Option(
            ["--max-batch-messages"],
            type=_bounded(1, 1_000),
            default=_BATCHES.max_messages,
            help="Messages a batch.",
        ),
        click.Option(
            ["--max-batches-in-flight"],
            type=_bounded(1, 64),
            default=_BATCHES.max_in_flight,
            help="Batches out at once.",
        ),
        click.Option(
            ["--max-waiting-messages"],
            type=_bounded(1, 10_000_000),
            default=_BATCHES.max_waiting_messages,
            help="Messages that may wait for a batch; past it callers get 503.",
        ),
        click.Option(
            ["--max-waiting-bytes"],
            type=_bounded(2**20, 2**34),
            default=_BATCHES.max_waiting_bytes,
            help="Bytes that may wait for a batch; past it callers get 503.",
        ),
        click.Option(
            ["--verification-threads"],
            type=_bounded(1, 64),
            default=_VERIFICATION.threads,
            help="Passwords verified at once: 40 ms and 19 MiB each.",
        ),
        click.Option(
            ["--max-waiting-verifications"],
            type=_bounded(0, 10_000),
            default=_VERIFICATION.max_waiting,
            help="Passwords that may wait to be verified; past it callers get 503.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            help="What is logged on stderr.",
        ),
    ]
    return _ThoroughCommand(
        name,
        params=[*options],
        callback=call,
        help="Take WhatsApp MO messages from the service provider and hand them to the service. "
        f"Every flag is also a variable: --listen is {_VARIABLE_PREFIX}_LISTEN.",
        context_settings={
            "auto_envvar_prefix": _VARIABLE_PREFIX,
            "show_default": True,
            "help_option_names": ["-h", "--help"],
        },
    )


def _to_settings(values: dict[str, Any]) -> Settings:
    return Settings(
        listen=values["listen"],
        admin_listen=values["admin_listen"],
        service=values["service"],
        state_dir=values["state_dir"],
        reply=values["reply"],
        log_level=values["log_level"],
        batches=BatchLimits(
            max_messages=values["max_batch_messages"],
            max_in_flight=values["max_batches_in_flight"],
            max_waiting_messages=values["max_waiting_messages"],
            max_waiting_bytes=values["max_waiting_bytes"],
        ),
        verification=VerificationLimits(
            threads=values["verification_threads"],
            max_waiting=values["max_waiting_verifications"],
        ),
    )
